# SPDX-License-Identifier: Apache-2.0
"""Node `emulated_arm`: a robot bench without a robot, for the drivers of real ones, in real time.

The arm hangs at a serial port, and only what comes over its bus moves it. What a bench has besides is here: pictures of
cameras, and somebody who puts the objects in place (`sim/reset`). `truth` is what no bench has, for who judges.
"""

import os
from pathlib import Path

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from serl_ros.diagnostics import ERROR, OK, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, RELIABLE_10
from std_msgs.msg import String

from serl_interfaces.msg import WorldState
from serl_interfaces.srv import ResetWorld
from serl_sim.emulated.bench import EmulatedBench
from serl_sim.emulated.servo_plant import ServoPlant
from serl_sim.scene_publisher_node import ScenePublisher
from serl_sim.state_publisher_node import fill_pose
from serl_tasks import get_task, task_names


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
        prefix = declare_frame_prefix(self)
        self._hurry()
        self._bench = EmulatedBench(task, seed, Path(folder).absolute())
        world = self._bench.view
        self._period = task.control_period
        self._stamp = Time()
        self._episode, self._began_ns, self._problem = 0, self._now(), ""
        self._truth = WorldState(names=list(world.objects()))
        self._truth.poses = [PoseMessage() for _ in self._truth.names]
        self._truth.header.stamp = self._stamp
        self._truth.header.frame_id = prefix + world.robot.base_frame
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
        self.get_logger().info(f"{task.name} on {world.robot.name} at {Path(folder).absolute()}/follower")

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

    def _diagnose(self) -> None:
        with_torque = loads = ""

        def ask(plant: ServoPlant) -> None:
            nonlocal with_torque, loads
            servos = plant.servos
            with_torque = ", ".join(name for name, servo in servos.items() if servo.torque_enabled)
            loads = ", ".join(f"{name} {0.1 * servo.load:.0f} %" for name, servo in servos.items())

        self._bench.change(ask)
        level, message = (ERROR, self._problem) if self._problem else (OK, f"torque: {with_torque or 'none'}")
        self._diagnostics.set("bench", level, message, episode=self._episode, loads=loads)


def main() -> None:
    """Entry point."""
    run_node(EmulatedArm)
