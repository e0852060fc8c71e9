# SPDX-License-Identifier: Apache-2.0
"""Node `gym_bridge`: a Gymnasium environment that others wrote, behind the topics and services of a simulated world.

It moves in lockstep only: one control period when a gripper width and a tool pose are there, which `arm_controller`
commands after its safety filter, as it does everywhere. The environment judges itself, so `reward` comes from here.
"""

import time
from collections.abc import Callable

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from serl_robots.model.camera_info import ideal_camera_info, optical_frame
from serl_robots.model.pose import Pose
from serl_ros.camera_publisher import CameraPublisher
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.log import ERROR as LOG_ERROR
from serl_ros.log import WARN as LOG_WARN
from serl_ros.log import log
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LOOP_1, RELIABLE_10
from serl_tasks.kinds.gym import GymTask
from serl_tasks.messages import MessageError, nanoseconds, pose_from_message
from std_msgs.msg import Float64MultiArray

from serl_interfaces.msg import Reward
from serl_interfaces.srv import ResetWorld
from serl_sim.foreign.environment_world import EnvironmentWorld, WorldFailure
from serl_sim.state_publisher_node import StatePublisher
from serl_tasks import get_task, task_names

_REMINDER_PERIOD = 0.2  # [s] of wall time, after which a world that stands still says its state again
_CLOCK_RATE = 50.0  # [Hz] of wall time, most messages on clock


class GymBridge(Node):
    """See the module and docs/other_worlds.md."""

    def __init__(self) -> None:
        """Make the environment and connect.

        Raises:
            ValueError: a parameter, a file or the environment cannot be used.
        """
        # This node is where time comes from; it must not wait for its own clock.
        super().__init__("gym_bridge", parameter_overrides=[Parameter("use_sim_time", value=False)])
        name = declare(self, "task", "pick_cube", "Task whose environment is the world.", choices=task_names())
        task = get_task(name)
        if not isinstance(task, GymTask):
            raise ParameterError(
                f"parameter 'task' of node '{self.get_name()}': expected a task of kind gym, found {name!r} of kind "
                f"{task.kind}, whose world mujoco_bridge simulates"
            )
        factor = declare(self, "real_time_factor", 0.0, "0: lockstep, the only one.", range=(0.0, 1000.0))
        if factor > 0.0:
            raise ParameterError(
                f"parameter 'real_time_factor' of node '{self.get_name()}': expected 0, because an environment moves "
                f"by steps and not by time, found {factor:g}"
            )
        seed = declare(self, "seed", 0, "Start state until the first reset.", range=(0, 2**31))
        judges = declare(self, "judges", True, "Publish what the environment says about success, on reward.")
        prefix = declare_frame_prefix(self)
        self._world = EnvironmentWorld(task)
        self._world.reset(seed)
        self._base_frame = prefix + self._world.robot.base_frame
        self._period_ns = round(task.control_period * 1e9)
        self._stamp_ns = self._period_ns  # 0 means "not set" in ROS
        self._stamp = Time()
        self._episode = self._step = 0
        self._pose: Pose | None = None
        self._width: float | None = None
        self._broken = ""
        self._refused = ""

        self._states = StatePublisher(self, self._world, self._stamp, _CLOCK_RATE, prefix)
        self._reward = Reward(source="environment") if judges else None
        self._reward_publisher = self.create_publisher(Reward, "reward", RELIABLE_10) if judges else None
        self._cameras = {camera: CameraPublisher(self, camera) for camera in task.viewed}
        self._fields_of_view = {camera: task.environment.cameras[camera].fovy_deg for camera in task.viewed}
        self._prefix = prefix
        self._diagnostics = Diagnostics(self)
        self._kept = [
            # In this order: of messages that are ready together the width is heard first, as it was sent first.
            self.create_subscription(Float64MultiArray, "gripper_controller/commands", self._on_gripper, LOOP_1),
            self.create_subscription(PoseStamped, "target_pose", self._on_pose, LOOP_1),
            self.create_service(ResetWorld, "sim/reset", self._on_reset),
            # On the steady clock: it must run while the simulated time stands still.
            self.create_timer(_REMINDER_PERIOD, self._remind, clock=Clock(clock_type=ClockType.STEADY_TIME)),
        ]
        self._publish()
        self.get_logger().info(f"{task.name}: environment {task.environment.id}, lockstep")

    def close(self) -> None:
        """Let go of the environment."""
        self._world.close()

    # Commands

    def _on_gripper(self, message: Float64MultiArray) -> None:
        if len(message.data) != 1 or not abs(message.data[0]) <= 1.0:
            self._refuse(f"gripper_controller/commands: expected one width within 1 m, found {list(message.data)}")
            return
        self._width = message.data[0]
        self._step_if_complete()

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            stamp_ns = nanoseconds(message.header.stamp)
            pose = pose_from_message(message.pose)
        except MessageError as error:
            self._refuse(f"target_pose: {error}")
            return
        if message.header.frame_id not in ("", self._base_frame):
            self._refuse(f"target_pose: expected the frame {self._base_frame}, found {message.header.frame_id!r}")
        elif stamp_ns not in (0, self._stamp_ns):
            self._width = None  # that came with it
            self._refuse(
                f"target_pose: it starts from the state at {stamp_ns / 1e9:.3f} s, and the world is at "
                f"{self._stamp_ns / 1e9:.3f} s"
            )
        else:
            self._pose, self._refused = pose, ""
            self._step_if_complete()

    def _refuse(self, reason: str) -> None:
        self._refused = reason
        log(self, LOG_WARN, f"command refused: {reason}", throttle=1.0, key="refused")

    def _step_if_complete(self) -> None:
        if self._pose is None or self._width is None or self._broken:
            return
        pose, width = self._pose, self._width
        self._pose = self._width = None
        try:
            self._world.step(pose.position, width)
        except WorldFailure as error:
            # Nothing is published of a step that failed: nobody can take what is no state for one.
            self._fail(error)
            return
        self._step += 1
        self._stamp_ns += self._period_ns
        self._publish()

    def _fail(self, error: WorldFailure) -> None:
        self._broken = f"{error}; waits for sim/reset"
        log(self, LOG_ERROR, self._broken, throttle=1.0, key="broken")
        self._states.publish_problem(self._broken)

    # State

    def _on_reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        if request.keep or request.task:
            response.message = "a Gymnasium environment begins where it likes: expected neither keep nor a task"
            return response
        self._pose = self._width = None
        try:
            self._world.reset(request.seed)
        except WorldFailure as error:
            self._fail(error)
            response.message = str(error)
            return response
        except ValueError as error:
            response.message = str(error)
            return response
        self._broken = self._refused = ""
        self._states.publish_problem("")
        self._episode, self._step = request.episode, 0
        self._stamp_ns += self._period_ns
        self._publish()
        self._states.publish_clock()
        response.success = True
        response.stamp = Time(sec=self._stamp.sec, nanosec=self._stamp.nanosec)
        return response

    def _publish(self) -> None:
        """Publish the state that the world is in now, and what it is worth."""
        self._stamp.sec, self._stamp.nanosec = divmod(self._stamp_ns, 1_000_000_000)
        self._states.publish(self._episode, self._step)
        if self._reward is not None and self._reward_publisher is not None:
            message, judgement = self._reward, self._world.judgement
            message.header.stamp = self._stamp
            message.episode, message.step = self._episode, self._step
            message.reward, message.success = judgement.reward, judgement.success
            message.terminated, message.probability = judgement.terminated, float(judgement.success)
            self._reward_publisher.publish(message)
        self._publish_pictures(lambda camera: camera.is_wanted())
        self._published_at = time.monotonic()

    def _publish_pictures(self, wanted: Callable[[CameraPublisher], bool]) -> None:
        for name, camera in self._cameras.items():
            if not wanted(camera):
                continue
            try:
                picture = self._world.picture(name)
            except WorldFailure as error:
                self._fail(error)
                return
            height, width = picture.shape[:2]
            frame = self._prefix + optical_frame(name)
            camera.publish(picture, ideal_camera_info(self._fields_of_view[name], width, height, frame), self._stamp)

    def _remind(self) -> None:
        """Say it again to nodes that join or lost a message, and how things are."""
        self._states.publish_clock()
        self._publish_pictures(lambda camera: camera.has_newcomers())
        if time.monotonic() - self._published_at >= _REMINDER_PERIOD:
            self._publish()
        level, message = OK, "waits for target_pose and gripper_controller/commands"
        if self._refused:
            level, message = WARN, f"command refused: {self._refused}"
        if self._broken:
            level, message = ERROR, self._broken
        self._diagnostics.set(
            "world", level, message, episode=self._episode, step=self._step, time=f"{self._stamp_ns / 1e9:.3f} s"
        )


def main() -> None:
    """Entry point."""
    run_node(GymBridge)
