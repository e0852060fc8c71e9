# SPDX-License-Identifier: Apache-2.0
"""Node `emulated_arm`: a robot bench without a robot, for the drivers of real ones, in real time.

Either the arm hangs at a serial port, and only what comes over its bus moves it; or somebody else emulates it, and
the arm of this world goes along with what its driver measures. What a bench has besides is here: pictures of cameras,
and somebody who puts the objects in place (`sim/reset`). `truth` is what no bench has, for who judges.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_ros.diagnostics import ERROR, OK, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.incoming import subscribe
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_10
from serl_tasks.arm_sample import arm_topic
from std_msgs.msg import String

from serl_interfaces.msg import WorldState
from serl_interfaces.srv import ResetWorld
from serl_sim.emulated.bench import EmulatedBench
from serl_sim.emulated.following_bench import FollowingBench
from serl_sim.scene_publisher_node import ScenePublisher
from serl_sim.state_publisher_node import fill_pose
from serl_sim.world import World
from serl_tasks import get_task, task_names


class _Bench(Protocol):
    """What both kinds of benches can do; see there."""

    view: World

    def look(self) -> str: ...
    def place_objects(self, seed: int) -> None: ...
    def describe(self) -> tuple[str, dict[str, str]]: ...
    def close(self) -> None: ...


class EmulatedArm(Node):
    """See the module."""

    def __init__(self) -> None:
        """Build the bench and connect.

        Raises:
            ValueError: a parameter or a file cannot be used.
            OSError: the folder cannot be written.
        """
        super().__init__("emulated_arm")
        task = get_task(declare(self, "task", "pick_cube", "Task whose bench it is.", choices=task_names()))
        seed = declare(self, "seed", 0, "Where the objects lie until the first reset.", range=(0, 2**31))
        moved_by = declare(
            self,
            "moved_by",
            "servos",
            "Who moves the arm: servos at a serial port, or whatever arm the driver has, by its joint_states.",
            choices=["servos", "joint_states"],
        )
        folder = declare(
            self,
            "folder",
            "emulated",
            "Gets the links `follower` and `leader` to the serial ports, and the calibrations `follower.json` and "
            "`leader.json`.",
        )
        truth_rate = declare(self, "truth_rate", 50.0, "Messages on truth in a second [Hz].", range=(1.0, 200.0))
        picture_rate = declare(self, "picture_rate", 20.0, "Pictures of a camera in a second [Hz].", range=(1.0, 60.0))
        robot_state = declare(
            self, "publish_robot_state", False, "Publish the robot's frames and description, as robot_state_publisher."
        )
        if task.arms and moved_by == "servos":
            raise ParameterError(
                f"parameter 'moved_by' of node '{self.get_name()}': expected joint_states, as {task.name!r} has two "
                "arms and servos are those of one, found 'servos'"
            )
        prefix = declare_frame_prefix(self)
        self._hurry()
        self._following = FollowingBench(task, seed) if moved_by == "joint_states" else None
        self._bench: _Bench = self._following or EmulatedBench(task, seed, Path(folder).absolute())
        world = self._bench.view
        self._period = task.control_period
        self._stamp = Time()
        self._episode, self._began_ns, self._problem = 0, self._now(), ""
        self._truth = WorldState(names=list(world.objects()))
        self._truth.poses = [PoseMessage() for _ in self._truth.names]
        self._truth.header.stamp = self._stamp
        self._truth.header.frame_id = prefix + task.reference_frame(world.robot.base_frame)
        self._truth_publisher = self.create_publisher(WorldState, "truth", RELIABLE_10)
        self._problem_publisher = self.create_publisher(String, "sim/problem", LATCHED)
        self._scene = ScenePublisher(
            self, world, self._stamp, robot_state=robot_state, image_size=None, frame_prefix=prefix
        )
        self._diagnostics = Diagnostics(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._kept = [
            self.create_service(ResetWorld, "sim/reset", self._on_reset),
            self.create_timer(1.0 / truth_rate, self._publish, clock=steady),
            self.create_timer(1.0 / picture_rate, self._publish_scene, clock=steady),
            self.create_timer(1.0, self._diagnose, clock=steady),
        ]
        for arm in task.arm_names if self._following else ():
            topic, heard = arm_topic(arm, "joint_states"), partial(self._on_state, arm)
            self._kept.append(subscribe(self, JointState, topic, heard, LOOP_1, ValueError))
        where = "joint_states" if self._following else f"{Path(folder).absolute()}/follower"
        self.get_logger().info(f"{task.name} on {world.robot.name} at {where}")

    def close(self) -> None:
        """Unplug the arms."""
        self._bench.close()

    def _hurry(self) -> None:
        """Come before other processes where that is allowed: servos do not wait for a processor."""
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # threads that begin later inherit it
        except OSError as error:
            self.get_logger().info(
                f"no real-time priority ({error.strerror}): on a busy machine the servos may answer late"
            )

    def _now(self) -> int:
        """Time [ns], which becomes the stamp of all messages."""
        now: int = self.get_clock().now().nanoseconds
        self._stamp.sec, self._stamp.nanosec = divmod(now, 1_000_000_000)
        return now

    def _publish(self) -> None:
        problem = self._bench.look()
        if problem != self._problem:
            self._problem = problem
            self._problem_publisher.publish(String(data=problem))
        if problem:
            return
        now = self._now()
        self._truth.episode = self._episode
        self._truth.step = max(0, round(1e-9 * (now - self._began_ns) / self._period))
        for message, pose in zip(self._truth.poses, self._bench.view.objects().values(), strict=True):
            fill_pose(message, pose)
        self._truth_publisher.publish(self._truth)

    def _publish_scene(self) -> None:
        if self._bench.look():
            return
        self._now()
        self._scene.publish_frames()
        self._scene.publish_markers()
        self._scene.publish_images()

    def _on_reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        if request.task not in ("", self._bench.view.task.name):
            response.message = f"task: expected {self._bench.view.task.name!r}, found {request.task!r}"
            return response
        if not request.keep:
            try:
                self._bench.place_objects(request.seed)
            except ValueError as error:
                response.message = str(error)
                return response
        self._episode, self._began_ns = request.episode, self._now()
        self._publish()
        response.success = True
        response.stamp = Time(sec=self._stamp.sec, nanosec=self._stamp.nanosec)
        return response

    def _on_state(self, arm: str, message: JointState) -> None:
        names = self._bench.view.robot.joints
        if tuple(message.name) != names or len(message.position) != len(names) or len(message.velocity) != len(names):
            raise ValueError(
                f"expected positions and velocities of {', '.join(names)}, found {', '.join(message.name)}"
            )
        if self._following is not None:
            self._following.follow(np.array(message.position), np.array(message.velocity), time.monotonic(), arm)

    def _diagnose(self) -> None:
        found, values = self._bench.describe()
        level, message = (ERROR, self._problem) if self._problem else (OK, found)
        self._diagnostics.set("bench", level, message, episode=self._episode, **values)


def main() -> None:
    """Entry point."""
    run_node(EmulatedArm)
