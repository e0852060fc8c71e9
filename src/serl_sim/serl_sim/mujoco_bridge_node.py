# SPDX-License-Identifier: Apache-2.0
"""Node `mujoco_bridge`: the simulated world behind the topics, services and actions of a real arm.

With `real_time_factor` 0 the world moves one control period when a command is complete, and never otherwise: a gripper
width and a tool pose, or a joint trajectory, to which a width belongs where its stamp is not 0. With a factor above 0
time runs on by itself.

With `by_controllers` the arm is hardware of a ros2_control instead (`joint_commands_node`): it has its joints alone,
and the controllers have the topics and actions.

Two arms are in the namespaces of their prefixes, `left` and `right`; each is commanded by poses and widths, and a world
in lockstep moves when both commands are complete.
"""

import time
from dataclasses import replace
from functools import partial

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from rclpy.task import Future
from serl_robots.controller_actions_node import ControllerActions
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from serl_robots.model.pose import Pose
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.log import ERROR as LOG_ERROR
from serl_ros.log import WARN as LOG_WARN
from serl_ros.log import log
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LOOP_1, RELIABLE_1
from serl_tasks.arm_sample import arm_topic
from serl_tasks.messages import MessageError, nanoseconds, pose_from_message
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from serl_interfaces.srv import ResetWorld, StepWorld
from serl_sim.joint_commands_node import COMMANDS, STATES, JointCommands
from serl_sim.scene.scene import MAX_IMAGE, TIMESTEP
from serl_sim.scene_publisher_node import ScenePublisher
from serl_sim.simulation import TIMESTEP_NS, CommandRefused, Simulation
from serl_sim.state_publisher_node import StatePublisher
from serl_sim.viewer import Viewer
from serl_sim.world import World
from serl_tasks import Task, get_task, task_names

_POSE_TOPIC = "target_pose"
_GRIPPER_TOPIC = "gripper_controller/commands"
_TRAJECTORY_TOPIC = "joint_trajectory_controller/joint_trajectory"

_BUSY_PERIOD = 0.001  # [s] of wall time between the steps of a busy world in lockstep
_SHORTEST_TICK = 0.002  # [s] of wall time between two looks at the wall clock
_LARGEST_LAG_NS = 100_000_000  # of wall time that a paced world catches up with
_PATIENCE_NS = 1_000_000_000  # that half a command may wait for the other half without comment
_REPORT_PERIOD_NS = 1_000_000_000
_REMINDER_PERIOD_NS = 200_000_000  # of a world that stands still, for nodes that join or lost a message
_MOST_STEPS = 10_000  # of one call of sim/step
_STEP_SLICE_NS = 20_000_000  # of wall time that a sim/step takes before others have their turn


class MujocoBridge(Node):
    """See the module."""

    def __init__(self) -> None:
        """Build the world and connect.

        Raises:
            ValueError: a parameter or a file cannot be used.
        """
        # This node is where time comes from; it must not wait for its own clock.
        super().__init__("mujoco_bridge", parameter_overrides=[Parameter("use_sim_time", value=False)])
        task = get_task(declare(self, "task", "pick_cube", "Task whose world is simulated.", choices=task_names()))
        task = self._with_loads(task)
        seed = declare(self, "seed", 0, "Start state until the first reset.", range=(0, 2**31))
        factor = declare(
            self,
            "real_time_factor",
            0.0,
            "Simulated over wall time; 0: lockstep, the world moves when a command is complete.",
            range=(0.0, 1000.0),
        )
        state_rate = declare(
            self, "state_rate", 100.0, "States in a simulated second, when paced [Hz].", range=(1.0, 500.0)
        )
        scene_rate = declare(
            self, "scene_rate", 20.0, "Frames and markers in a second of wall time, at most [Hz].", range=(1.0, 30.0)
        )
        clock_rate = declare(
            self, "clock_max_rate", 50.0, "Most messages on clock in a second of wall time [Hz].", range=(1.0, 1e4)
        )
        width = declare(
            self,
            "camera_width",
            0,
            "Width of all pictures [pixels]; 0: each as the task needs.",
            range=(0, MAX_IMAGE[0]),
        )
        height = declare(self, "camera_height", 0, "Height, as camera_width [pixels].", range=(0, MAX_IMAGE[1]))
        if bool(width) != bool(height):
            raise ParameterError(
                f"parameters 'camera_width' and 'camera_height' of node '{self.get_name()}': expected both or none, "
                f"found {width} and {height}"
            )
        headless = declare(self, "headless", True, "False opens MuJoCo's viewer.")
        robot_state = declare(
            self, "publish_robot_state", True, "Publish the robot's frames and description, as robot_state_publisher."
        )

        by_controllers = declare(
            self, "by_controllers", False,
            f"The arm is moved by ros2_control's topic-based hardware alone, by {COMMANDS} and {STATES}.",
        )  # fmt: skip
        if by_controllers and (factor == 0.0 or task.arms):
            raise ParameterError(
                f"parameter 'by_controllers' of node '{self.get_name()}': expected a real_time_factor above 0 and a "
                f"task of one arm, as controllers do not wait for the world; found {factor:g} and {task.name!r}"
            )
        frame_prefix = declare_frame_prefix(self)

        world = World(task)
        world.reset(seed)
        self._base_frames = {arm: frame_prefix + arm_topic(arm, world.robot.base_frame) for arm in world.arms}
        self._simulation = Simulation(world, lockstep=factor == 0.0)
        self._factor = factor
        self._slice_steps = round(1.0 / (state_rate * TIMESTEP))
        if factor > 0.0 and abs(self._slice_steps * TIMESTEP * state_rate - 1.0) > 1e-6:
            raise ParameterError(
                f"parameter 'state_rate' of node '{self.get_name()}': expected a rate whose period is a multiple of "
                f"{TIMESTEP} s, found {state_rate} Hz"
            )
        self._stamp = Time()
        self._set_stamp()
        self._refused: dict[str, str] = {}  # why the newest command on a topic was refused
        self._refusals = 0
        self._resets = 0
        self._half_since_ns = 0
        self._half_is_reported = False
        self._report = (time.monotonic_ns(), 0)
        self._image_step = -1

        states = STATES if by_controllers else "joint_states"
        self._states = StatePublisher(self, world, self._stamp, clock_rate, frame_prefix, states)
        self._scene = ScenePublisher(
            self,
            world,
            self._stamp,
            robot_state=robot_state,
            image_size=(width, height) if width else None,
            frame_prefix=frame_prefix,
        )
        self._viewer = None if headless else Viewer(world)
        self._diagnostics = Diagnostics(self)
        self._subscriptions_kept: list[Subscription] = []
        if by_controllers:
            self._subscriptions_kept.append(JointCommands(self, self._simulation).subscription)
        for arm in () if by_controllers else world.arms:
            # In this order: of messages that are ready together the width is heard first, as it was sent first, and a
            # pose that is refused takes its width along.
            gripper, pose = arm_topic(arm, _GRIPPER_TOPIC), arm_topic(arm, _POSE_TOPIC)
            on_gripper, on_pose = partial(self._on_gripper, arm, gripper), partial(self._on_pose, arm, pose)
            self._subscriptions_kept += [
                self.create_subscription(Float64MultiArray, gripper, on_gripper, LOOP_1),
                self.create_subscription(PoseStamped, pose, on_pose, LOOP_1),
            ]
        if not (task.arms or by_controllers):
            trajectories = self.create_subscription(JointTrajectory, _TRAJECTORY_TOPIC, self._on_trajectory, RELIABLE_1)
            self._subscriptions_kept.append(trajectories)
        self._services_kept = [
            self.create_service(ResetWorld, "sim/reset", self._on_reset),
            # In a group of its own: nothing else may wait until it is done.
            self.create_service(StepWorld, "sim/step", self._on_step, callback_group=ReentrantCallbackGroup()),
            self.create_service(SetBool, "sim/pause", self._on_pause),
        ]
        # On the steady clock: these must run while the simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._turn: Future | None = None  # of a sim/step that lets others have theirs
        self._turn_timer = self.create_timer(_BUSY_PERIOD, self._on_turn, clock=steady)
        self._turn_timer.cancel()
        self._scene_timer = self.create_timer(1.0 / scene_rate, self._on_scene_timer, clock=steady)
        if self._simulation.lockstep:
            # Moves a world that a trajectory or an action keeps busy; asleep otherwise.
            self._drive_timer = self.create_timer(_BUSY_PERIOD, self._drive, clock=steady)
            self._drive_timer.cancel()
        else:
            period = max(_SHORTEST_TICK, self._slice_steps * TIMESTEP / factor)
            self._drive_timer = self.create_timer(period, self._follow_wall_time, clock=steady)
        self._paced_until_ns = time.monotonic_ns()
        self._actions = None if task.arms or by_controllers else ControllerActions(self, self._simulation, self._wake)
        self._publish()
        mode = "lockstep" if self._simulation.lockstep else f"{factor:g} times real time"
        self.get_logger().info(f"{task.name} on {world.robot.name}, {mode}")

    def _with_loads(self, task: Task) -> Task:
        """The task, with the limits of loads that the arm controller was given: with one the wrist is measured."""
        limits = {
            name: declare(
                self, f"limits.{name}", getattr(task.limits, name),
                f"As that of the arm controller {unit}; with one above 0 the bridge measures at the wrist.",
                range=(0.0, 1000.0),
            )
            for name, unit in (("max_force", "[N]"), ("max_torque", "[Nm]"))
        }  # fmt: skip
        return replace(task, limits=replace(task.limits, **limits))

    def close(self) -> None:
        """Close the window and the OpenGL contexts."""
        if self._viewer is not None:
            self._viewer.close()
        self._simulation.world.close()

    # Commands

    def _on_pose(self, arm: str, topic: str, message: PoseStamped) -> None:
        frame, expected = message.header.frame_id, self._base_frames[arm]
        simulation = self._simulation
        if frame not in ("", expected):
            self._refuse(topic, f"expected the frame {expected}, found {frame!r}")
            return
        try:
            simulation.command_pose(pose_from_message(message.pose), nanoseconds(message.header.stamp), arm)
        except (MessageError, CommandRefused) as error:
            self._refuse(topic, str(error))
        else:
            self._accept(topic)

    def _on_gripper(self, arm: str, topic: str, message: Float64MultiArray) -> None:
        if len(message.data) != 1:
            self._refuse(topic, f"expected one width [m], found {len(message.data)} values")
            return
        try:
            self._simulation.command_width(message.data[0], arm)
        except CommandRefused as error:
            self._refuse(topic, str(error))
        else:
            self._accept(topic)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        simulation = self._simulation
        joints = simulation.world.robot.arm_joints
        try:
            plan = JointTrajectoryPlan.from_message(
                message, joints, simulation.world.joint_positions[: len(joints)], simulation.world.arm_limits
            )
            stamp_ns = nanoseconds(message.header.stamp)
            simulation.command_trajectory(plan, stamp_ns)
        except (TrajectoryError, MessageError, CommandRefused) as error:
            self._refuse(_TRAJECTORY_TOPIC, str(error))
            return
        if simulation.lockstep and stamp_ns:
            self._accept(_TRAJECTORY_TOPIC)
            return
        self._refused.pop(_TRAJECTORY_TOPIC, None)
        if simulation.lockstep and simulation.can_move:
            self._take_step()
        self._wake()

    def _accept(self, topic: str) -> None:
        if self._refused:
            self._refused.pop(topic, None)
        if self._simulation.lockstep:
            self._step_if_complete()

    def _refuse(self, topic: str, reason: str) -> None:
        """Say why a command is refused: the first one, until one of the same topic is accepted."""
        self._refusals += 1
        if topic not in self._refused:
            log(self, LOG_WARN, f"command refused: {topic}: {reason}", throttle=1.0, key=("refused", topic))
        self._refused[topic] = reason

    def _step_if_complete(self) -> None:
        if self._simulation.is_complete and self._simulation.can_move:
            self._take_step()
        else:
            self._half_since_ns = time.monotonic_ns()

    # Time

    def _take_step(self) -> None:
        if self._simulation.take_step():
            self._publish()
        else:
            self._report_broken()

    def _report_broken(self) -> None:
        """Say why the world has stopped. Its state is none, so nothing is published of it."""
        log(self, LOG_ERROR, self._simulation.broken, throttle=1.0, key="broken")
        self._states.publish_problem(self._simulation.broken)

    def _wake(self) -> None:
        """Start moving a world in lockstep that is busy."""
        if self._simulation.lockstep and self._simulation.is_busy:
            self._drive_timer.reset()

    def _drive(self) -> None:
        if self._simulation.is_busy and self._simulation.can_move:
            self._take_step()
        else:
            self._drive_timer.cancel()

    def _follow_wall_time(self) -> None:
        """Advance a paced world to where the wall clock is; let go of what it cannot catch up with."""
        now = time.monotonic_ns()
        slice_ns = round(self._slice_steps * TIMESTEP_NS / self._factor)
        self._paced_until_ns = max(self._paced_until_ns, now - max(_LARGEST_LAG_NS, slice_ns))
        while self._paced_until_ns + slice_ns <= now:
            self._paced_until_ns += slice_ns
            if not self._simulation.can_move:
                continue
            if self._simulation.advance(self._slice_steps):
                self._publish()
            else:
                self._report_broken()

    def _publish(self) -> None:
        """Publish the state that the world is in now."""
        self._set_stamp()
        self._publish_state()
        # Images come once in a control period, also where states come more often.
        if self._simulation.step != self._image_step:
            self._image_step = self._simulation.step
            self._scene.publish_images()

    def _publish_state(self) -> None:
        self._states.publish(self._simulation.episode, self._simulation.step)
        self._published_ns = time.monotonic_ns()

    def _set_stamp(self) -> None:
        self._stamp.sec, self._stamp.nanosec = divmod(self._simulation.stamp_ns, 1_000_000_000)

    # Services

    def _on_reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        try:
            if request.keep:
                self._simulation.keep(request.episode)
            else:
                self._simulation.reset(request.seed, request.episode, self._start_of(request))
        except ValueError as error:
            response.success, response.message = False, str(error)
            log(self, LOG_WARN, f"sim/reset refused: {error}", throttle=1.0)
            return response
        self._resets += 1
        self._refused.clear()
        self._image_step = -1
        self._states.publish_problem("")
        self._publish()
        self._states.publish_clock()
        response.success = True
        response.stamp = Time(sec=self._stamp.sec, nanosec=self._stamp.nanosec)
        return response

    def _start_of(self, request: ResetWorld.Request) -> dict[str, Pose] | None:
        """Where the objects of another task than the world's own start; ValueError if there is no such task."""
        if request.seed < 0 or request.task in ("", self._simulation.world.task.name):
            return None
        return get_task(request.task).sample_objects(np.random.default_rng(request.seed))

    async def _on_step(self, request: StepWorld.Request, response: StepWorld.Response) -> StepWorld.Response:
        """Many steps take seconds: every few milliseconds whoever waits (a reset, a pause, diagnostics) comes first."""
        simulation = self._simulation
        if not (simulation.paused or simulation.lockstep):
            response.message = "the world runs by itself: pause it first (sim/pause with data true)"
        elif request.steps > _MOST_STEPS:
            response.message = f"steps: expected at most {_MOST_STEPS}, found {request.steps}"
        elif simulation.broken:
            response.message = simulation.broken
        elif self._turn is not None:
            response.message = "another sim/step is not done yet"
        else:
            response.message = await self._many_steps(request.steps)
            response.success = not response.message
        return response

    async def _many_steps(self, steps: int) -> str:
        """Why it ended before its time; empty if it did not."""
        simulation, resets = self._simulation, self._resets
        slice_end = time.monotonic_ns() + _STEP_SLICE_NS
        for done in range(steps):
            if time.monotonic_ns() > slice_end:
                self._turn = Future(executor=self.executor)
                self._turn_timer.reset()
                try:
                    await self._turn
                finally:
                    self._turn = None
                slice_end = time.monotonic_ns() + _STEP_SLICE_NS
            if self._resets != resets:
                return f"sim/reset came after {done} of {steps} steps"
            if not (simulation.paused or simulation.lockstep):
                return f"the world was told to run by itself after {done} of {steps} steps"
            self._take_step()
            if simulation.broken:
                return simulation.broken
        return ""

    def _on_turn(self) -> None:
        self._turn_timer.cancel()
        if self._turn is not None:
            self._turn.set_result(None)

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._simulation.paused = request.data
        self._wake()
        if self._simulation.lockstep:
            self._step_if_complete()
        response.success = True
        response.message = "paused" if request.data else "running"
        return response

    # What a person looks at

    def _on_scene_timer(self) -> None:
        now = time.monotonic_ns()
        if not self._simulation.broken:  # else its state is none, and nobody may take it for one
            self._states.publish_clock()
            self._scene.publish_frames()
            self._scene.publish_markers()
            self._scene.publish_images_to_newcomers()
            if now - self._published_ns >= _REMINDER_PERIOD_NS:
                self._publish_state()
                self._scene.publish_images()
        if self._viewer is not None:
            self._viewer.refresh()
        if now - self._report[0] >= _REPORT_PERIOD_NS:
            self._diagnose(now)

    def _diagnose(self, now_ns: int) -> None:
        simulation = self._simulation
        then_ns, steps = self._report
        self._report = (now_ns, simulation.physics_steps)
        factor = (simulation.physics_steps - steps) * TIMESTEP_NS / (now_ns - then_ns)
        waits_for = simulation.waits_for() if simulation.lockstep or not simulation.can_move else ""
        level, message = OK, f"waits for {waits_for}" if waits_for else "running"
        if simulation.has_half_a_command and now_ns - self._half_since_ns > _PATIENCE_NS:
            level = WARN
            if not self._half_is_reported:
                self._half_is_reported = True
                self.get_logger().warning(f"the world waits for {waits_for}; the rest of the command is there")
        else:
            self._half_is_reported = False
        if self._refused:
            reasons = "; ".join(f"{topic}: {reason}" for topic, reason in self._refused.items())
            level, message = WARN, f"{message}; command refused: {reasons}"
        if simulation.broken:
            level = ERROR
        self._diagnostics.set(
            "world",
            level,
            message,
            episode=simulation.episode,
            step=simulation.step,
            time=f"{simulation.stamp_ns / 1e9:.3f} s",
            real_time_factor=f"{factor:.2f}",
            refused_commands=self._refusals,
        )


def main() -> None:
    """Entry point."""
    run_node(MujocoBridge)
