# SPDX-License-Identifier: Apache-2.0
"""Node `planner`: answers `plan_motion` by a way round the scene. It commands nothing; the arm controller follows."""

import time
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from serl_config.text import printable
from serl_robots.arm_messages_node import read_joints
from serl_robots.control.task_robot import robot_of
from serl_robots.model.pose import Pose, PoseError
from serl_robots.task_parameters_node import declare_task
from serl_robots.way_client_node import SERVICE
from serl_ros.diagnostics import OK, WARN, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.log import ERROR, INFO, log
from serl_ros.node import run_node
from serl_ros.parameters import declare
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from serl_interfaces.srv import PlanMotion
from serl_planning.scene_planner import Kind, PlannerSettings, ScenePlanner
from serl_planning.way import MissingPlanner, PlanningError, TimedWay, library

_REPEAT_AFTER = 1.0  # [s] between two log lines


class PlannerNode(Node):
    """See the module and `ScenePlanner`."""

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters and offer the service.

        Raises:
            ValueError: a parameter or a file cannot be used.
        """
        super().__init__("planner", **node_arguments)
        task = declare_task(self)
        kind: Any = declare(
            self,
            "planner",
            "ompl",
            "Who looks for ways: ompl (./serl setup planning), moveit (moveit_py of a native ROS 2), straight: nobody.",
            choices=get_args(Kind),
        )
        settings = PlannerSettings(
            kind=kind,
            patience=declare(self, "patience", 5.0, "Time for the search of a way [s].", range=(0.1, 8.0)),
            jerk=declare(self, "jerk", 30.0, "Limit of each joint on a way [rad/s^3].", range=(0.1, 1000.0)),
            group=declare(self, "moveit_group", "manipulator", "Group of joints in MoveIt's SRDF, for planner moveit."),
        )
        robot = robot_of(task)
        self._joints = robot.arm_joints
        self._base_frame = declare_frame_prefix(self) + robot.base_frame
        self._planner = ScenePlanner(task, robot, settings, self._base_frame)
        self._diagnostics = Diagnostics(self, robot.name)
        self._kept = self.create_service(PlanMotion, SERVICE, self._on_plan)
        self._say_what_is_missing(kind)

    def close(self) -> None:
        """End what was started for planning."""
        self._planner.close()

    def _say_what_is_missing(self, kind: str) -> None:
        """It stays and answers with the reason, so that who asks is told, too."""
        try:
            if kind != "moveit":
                library("ruckig")
            if kind == "ompl":
                library("ompl.geometric")
        except MissingPlanner as error:
            log(self, ERROR, str(error))
            self._diagnostics.set("planner", WARN, str(error))
            return
        self._diagnostics.set("planner", OK, f"planner: {kind}")

    def _on_plan(self, request: PlanMotion.Request, response: PlanMotion.Response) -> PlanMotion.Response:
        began = time.monotonic()
        try:
            scaling = 1.0 if request.velocity_scaling == 0.0 else float(request.velocity_scaling)
            if not 0.0 < scaling <= 1.0:
                raise PlanningError(f"velocity_scaling: expected a value in (0, 1], found {scaling}")
            way = self._planner.plan(self._positions("start", request.start), self._goal(request), scaling)
        except PlanningError as error:
            response.success, response.message = False, printable(error)
            log(self, INFO, f"no way: {error}", throttle=_REPEAT_AFTER)
            return response
        spent = time.monotonic() - began
        response.success = True
        response.message = f"{way.duration:.2f} s of motion, planned in {spent:.2f} s"
        response.trajectory = self._message(way)
        return response

    def _goal(self, request: Any) -> NDArray[np.float64] | Pose:
        if request.goal_kind == PlanMotion.Request.GOAL_JOINTS:
            return self._positions("joints", request.joints)
        if request.goal_kind != PlanMotion.Request.GOAL_POSE:
            raise PlanningError(f"goal_kind: expected 0 (joints) or 1 (pose), found {request.goal_kind}")
        header, pose = request.pose.header, request.pose.pose
        if header.frame_id != self._base_frame:
            raise PlanningError(f"pose: expected frame_id {self._base_frame!r}, found {header.frame_id!r}")
        p, q = pose.position, pose.orientation
        try:
            return Pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        except PoseError as error:
            raise PlanningError(f"pose: {error}") from error

    def _positions(self, what: str, message: Any) -> NDArray[np.float64]:
        """Positions (n,) [rad] of the arm's joints in a message, in order."""
        try:
            return read_joints(message, self._joints)
        except ValueError as error:
            raise PlanningError(f"{what}: {error}") from error

    def _message(self, way: TimedWay) -> JointTrajectory:
        points = []
        for index, positions in enumerate(way.positions):
            point = JointTrajectoryPoint(positions=positions.tolist())
            time_ns = round(index * way.period * 1e9)
            point.time_from_start.sec, point.time_from_start.nanosec = divmod(time_ns, 1_000_000_000)
            points.append(point)
        return JointTrajectory(joint_names=list(self._joints), points=points)


def main() -> None:
    """Entry point."""
    run_node(PlannerNode)
