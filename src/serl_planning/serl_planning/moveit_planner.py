# SPDX-License-Identifier: Apache-2.0
"""Ways by MoveIt, through its Python API `moveit_py`, where a native ROS 2 has it.

Written against the public API of MoveIt 2.12 and 2.14 and tested with a stand-in; no native run has confirmed it. The
scene is put into MoveIt's planning scene by whoever runs it.
"""

import importlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from serl_robots.model.pose import Pose

from serl_planning.way import MissingPlanner, PlanningError, TimedWay, Vector

_REMEDY: Final = "install ros-$ROS_DISTRO-moveit-py and start the graph from that ROS 2, or launch with planner:=ompl"


class MoveItPlanner:
    """Plans for one group of joints; MoveIt is imported and started with the first way that is asked for."""

    def __init__(self, joints: Sequence[str], base_frame: str, tool: str, group: str) -> None:
        """Plan by MoveIt's configuration of the node `moveit_py`.

        Args:
            joints: the arm's, in order.
            base_frame: of poses.
            tool: link that gets to a pose.
            group: of joints in the robot's SRDF.
        """
        self._joints, self._base_frame, self._tool, self._group = list(joints), base_frame, tool, group
        self._moveit: Any = None

    def close(self) -> None:
        """End MoveIt."""
        if self._moveit is not None:
            self._moveit.shutdown()

    def plan(self, start: Vector, goal: Vector | Pose, period: float, scaling: float) -> TimedWay:
        """A way with MoveIt's own times, a point each `period` [s].

        Args:
            start: joint positions (n,) [rad].
            goal: joint positions (n,) [rad], or the tool's pose in the base frame.
            period: of control [s].
            scaling: of speeds; accelerations are scaled by its square.

        Raises:
            MissingPlanner: MoveIt is not installed, or does not start.
            PlanningError: it finds no way.
        """
        planning, state_module = self._module("moveit.planning"), self._module("moveit.core.robot_state")
        if self._moveit is None:
            try:
                self._moveit = planning.MoveItPy(node_name="moveit_py")
            except RuntimeError as error:
                raise MissingPlanner(
                    f"MoveIt does not start ({error}); give it its configuration by ros2 launch"
                ) from error
        component = self._moveit.get_planning_component(self._group)
        model = self._moveit.get_robot_model()
        component.set_start_state(robot_state=self._state(state_module, model, start))
        if isinstance(goal, Pose):
            component.set_goal_state(pose_stamped_msg=self._message(goal), pose_link=self._tool)
        else:
            component.set_goal_state(robot_state=self._state(state_module, model, goal))
        parameters = planning.PlanRequestParameters(self._moveit, "ompl_rrtc")
        parameters.max_velocity_scaling_factor = scaling
        parameters.max_acceleration_scaling_factor = scaling**2
        result = component.plan(single_plan_parameters=parameters)
        if not result:
            raise PlanningError(
                f"MoveIt finds no way ({getattr(result, 'error_code', 'no reason given')}); see its log"
            )
        return self._sampled(result.trajectory.get_robot_trajectory_msg().joint_trajectory, period)

    def _sampled(self, trajectory: Any, period: float) -> TimedWay:
        names, points = list(trajectory.joint_names), list(trajectory.points)
        if sorted(names) != sorted(self._joints) or not points:
            raise PlanningError(f"MoveIt's group {self._group!r}: expected {self._joints}, found {names}")
        order = [names.index(joint) for joint in self._joints]
        times = np.array([point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in points])
        positions = np.array([list(point.positions) for point in points], dtype=np.float64)[:, order]
        at = np.minimum(np.arange(int(np.ceil(times[-1] / period - 1e-9)) + 1) * period, times[-1])
        return TimedWay(period, np.stack([np.interp(at, times, joint) for joint in positions.T], axis=1))

    def _state(self, module: Any, model: Any, positions: Vector) -> Any:
        state = module.RobotState(model)
        state.joint_positions = dict(zip(self._joints, positions.tolist(), strict=True))
        state.update()
        return state

    def _message(self, goal: Pose) -> Any:
        from geometry_msgs.msg import PoseStamped  # a planner without ROS needs none

        message = PoseStamped()
        message.header.frame_id = self._base_frame
        position, orientation = message.pose.position, message.pose.orientation
        position.x, position.y, position.z = goal.position.tolist()
        orientation.x, orientation.y, orientation.z, orientation.w = goal.quaternion.tolist()
        return message

    @staticmethod
    def _module(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise MissingPlanner(f"planner:=moveit needs {name}: {_REMEDY} ({error})") from error
