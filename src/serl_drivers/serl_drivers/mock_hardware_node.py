# SPDX-License-Identifier: Apache-2.0
"""Node `mock_hardware`: a ros2_control whose hardware is an arm without physics, for machines that have none."""

from __future__ import annotations

import time
from array import array

import numpy as np
from controller_manager_msgs.msg import ControllerState
from controller_manager_msgs.srv import ListControllers, SwitchController
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_robots.control.arm_task import load_arm_task
from serl_robots.control.task_file import task_files
from serl_robots.controller_actions_node import ControllerActions
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.robot import load_robot
from serl_ros.frames import declare_frame_prefix
from serl_ros.incoming import subscribe
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import RELIABLE_1, RELIABLE_10
from serl_tasks.messages import MessageError, pose_from_message
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from serl_drivers.mock_hardware.arm import MockArm
from serl_drivers.mock_hardware.controllers import ARM, CARTESIAN, FORWARD, TRAJECTORY, Controllers
from serl_ros import log as logs


class MockHardwareNode(Node):
    """See the module. Only the active controller's topic and action move the arm, as in ros2_control."""

    def __init__(self, **node_arguments: object) -> None:
        """Declare parameters, offer everything, and begin.

        Raises:
            ValueError: a parameter cannot be used.
        """
        super().__init__("mock_hardware", **node_arguments)
        task = load_arm_task(
            declare(self, "task", "pick_cube", "Task: a file in config/tasks.", choices=[*task_files()])
        )
        rate = declare(self, "rate", 100.0, "Of joint states, and of the arm's motion [Hz].", range=(10.0, 1000.0))
        latency = declare(self, "latency", 2, "Periods until a target is where the arm is.", range=(0, 100))
        width = declare(self, "object_width", 0.0, "Of what is between the fingers [m]; 0: nothing.", range=(0.0, 1.0))
        active = declare(
            self, "active", TRAJECTORY, "The arm's controller at the start; empty: none.", choices=["", *ARM]
        )
        gripper = declare(
            self, "gripper_action", "ParallelGripperCommand", "Type of the gripper's action.",
            choices=["ParallelGripperCommand", "GripperCommand"],
        )  # fmt: skip
        robot = load_robot(task.robot)
        self._robot = robot
        self._base_frame = declare_frame_prefix(self) + robot.base_frame
        self.arm = MockArm(robot, 1.0 / rate, task.control_period, latency, width)
        """What is commanded."""
        self.controllers = Controllers(robot, active)
        """Who may."""
        self._state = JointState(name=list(robot.joints))
        self._states = self.create_publisher(JointState, "joint_states", RELIABLE_10)
        self._kept = [
            subscribe(
                self, JointTrajectory, f"{TRAJECTORY}/joint_trajectory", self._on_trajectory, RELIABLE_1, ValueError
            ),
            subscribe(self, Float64MultiArray, f"{FORWARD}/commands", self._on_forward, RELIABLE_1, ValueError),
            subscribe(self, PoseStamped, "target_pose", self._on_pose, RELIABLE_1, ValueError),
            self.create_service(ListControllers, "controller_manager/list_controllers", self._list),
            self.create_service(SwitchController, "controller_manager/switch_controller", self._switch),
            self.create_timer(1.0 / rate, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME)),
        ]
        self._actions = ControllerActions(
            self,
            self.arm,
            gripper="GripperCommand" if gripper == "GripperCommand" else "ParallelGripperCommand",
            refusal=lambda: self._refusal(TRAJECTORY),
        )

    def destroy_node(self) -> None:
        """Take everything back that it offered."""
        self._actions.destroy()
        super().destroy_node()

    # Commands

    def _refusal(self, controller: str) -> str:
        return "" if self.controllers.is_active(controller) else f"controller {controller!r} is not active"

    def _check(self, controller: str) -> None:
        reason = self._refusal(controller)
        if reason:
            raise ValueError(reason)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._check(TRAJECTORY)
        arm = self.arm
        plan = JointTrajectoryPlan.from_message(message, self._robot.arm_joints, arm.reading.positions, arm.arm_limits)
        arm.command_trajectory(plan)

    def _on_forward(self, message: Float64MultiArray) -> None:
        self._check(FORWARD)
        positions = np.array(message.data, dtype=np.float64)
        if positions.shape != (len(self._robot.arm_joints),) or not np.isfinite(positions).all():
            raise ValueError(f"expected {len(self._robot.arm_joints)} finite positions, found {positions.tolist()}")
        self.arm.command_joints(positions)

    def _on_pose(self, message: PoseStamped) -> None:
        self._check(CARTESIAN)
        if message.header.frame_id not in ("", self._base_frame):
            raise MessageError(f"expected the frame {self._base_frame}, found {message.header.frame_id!r}")
        self.arm.command_pose(pose_from_message(message.pose))

    # The controller manager

    def _list(self, _request: ListControllers.Request, response: ListControllers.Response) -> ListControllers.Response:
        response.controller = [
            ControllerState(
                name=each.name,
                state=each.state,
                type="serl_drivers/mock",
                claimed_interfaces=list(each.claimed),
                required_command_interfaces=list(each.required),
            )
            for each in self.controllers.all
        ]
        return response

    def _switch(
        self, request: SwitchController.Request, response: SwitchController.Response
    ) -> SwitchController.Response:
        activate, deactivate = list(request.activate_controllers), list(request.deactivate_controllers)
        response.message = self.controllers.switch(activate, deactivate)
        response.ok = not response.message
        if response.ok and {*activate, *deactivate} & {*ARM}:
            self.arm.command_trajectory(JointTrajectoryPlan.hold(self.arm.reading.positions))
        logs.log(self, logs.INFO, f"switch +{activate} -{deactivate}: {response.message or 'done'}")
        return response

    # Time

    def _on_timer(self) -> None:
        reading, gripper, state = self.arm.tick(time.monotonic()), self._robot.gripper, self._state
        fingers = [gripper.position(reading.width)] * len(gripper.joints)
        state.header.stamp = self.get_clock().now().to_msg()
        state.position = array("d", [*reading.positions.tolist(), *fingers])
        state.velocity = array("d", [*reading.velocities.tolist(), *[0.0] * len(fingers)])
        self._states.publish(state)


def main() -> None:
    """Entry point."""
    run_node(MockHardwareNode)
