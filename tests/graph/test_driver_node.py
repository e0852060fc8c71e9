# SPDX-License-Identifier: Apache-2.0
"""The node as a process, with servos at a pseudo-terminal: what others hear of it, and how it ends."""

from __future__ import annotations

import os
import signal
import time
from array import array
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_launch.language.packages import find_executable
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_1, RELIABLE_10
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from serl_interfaces.msg import SafetyStatus

pytestmark = pytest.mark.graph

START_TIMEOUT = 60.0  # [s]


class Operator:
    """A node that commands the arm and hears of it."""

    def __init__(self, ros: Any) -> None:
        self._ros, self.node = ros, ros.node("operator")
        self.statuses: list[DiagnosticStatus] = []
        self.states: list[JointState] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(DiagnosticStatus, "driver/status", self.statuses.append, LATCHED)
        self.node.create_subscription(JointState, "joint_states", self.states.append, RELIABLE_10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE_10)
        self.joints = self.node.create_publisher(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", RELIABLE_1
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics |= {status.name: status for status in message.status}

    def state(self) -> str:
        return self.statuses[-1].values[0].value if self.statuses else "nothing heard"

    def wait_for(self, state: str) -> None:
        self._ros.spin_until(
            lambda: self.state() == state, START_TIMEOUT, lambda: f"{state}: {[each.message for each in self.statuses]}"
        )

    def ask(self, what: str) -> Trigger.Response:
        client = self.node.create_client(Trigger, f"driver/{what}")
        self._ros.spin_until(client.service_is_ready, START_TIMEOUT, what)
        future = client.call_async(Trigger.Request())
        self._ros.spin_until(future.done, START_TIMEOUT, what)
        return future.result()

    def move(self, pan: float) -> None:
        message = JointTrajectory(joint_names=list(self.states[-1].name[:5]))
        point = JointTrajectoryPoint(positions=array("d", [pan, 0.0, 0.0, 0.0, 0.0]))
        point.time_from_start.nanosec = 200_000_000
        message.points = [point]
        self.joints.publish(message)


@pytest.fixture
def operator(ros: Any) -> Operator:
    return Operator(ros)


@pytest.fixture
def driver(processes: Any, operator: Operator, terminal: PseudoTerminal, calibration: Path) -> Any:
    return started(processes, operator, terminal, terminal.path, calibration)


def started(processes: Any, operator: Operator, terminal: PseudoTerminal, port: str, calibration: Path) -> Any:
    """A driver of the arm at a port, which holds it."""
    parameters = {"task": "pick_cube_so101", "driver": "so101", "port": port, "calibration": calibration}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    command = str(find_executable("serl_drivers", "driver", os.environ))
    process = processes.start(command, "--ros-args", *arguments)
    operator.wait_for("limp")
    assert torques(terminal) == {False}
    assert operator.ask("hold").success
    operator.wait_for("holding")
    return process


def torques(terminal: PseudoTerminal) -> set[bool]:
    return {servo.torque_enabled for servo in terminal.bus.servos}


def test_an_arm_is_followed_found_faulty_connected_anew_let_go_and_left_holding(
    ros: Any, driver: Any, operator: Operator, terminal: PseudoTerminal
) -> None:
    ros.spin_until(lambda: operator.states, START_TIMEOUT, "joint_states")

    def moved() -> bool:
        operator.move(0.2)
        return operator.states[-1].position[0] > 0.15

    ros.spin_until(moved, START_TIMEOUT, lambda: f"shoulder_pan at 0.2 rad; it is at {operator.states[-1].position}")
    operator.wait_for("holding")
    assert "active" in [status.values[0].value for status in operator.statuses]

    terminal.change(lambda bus: setattr(bus.servo(3), "silent", True))
    operator.wait_for("fault")
    assert "elbow_flex" in operator.statuses[-1].message
    refused = operator.ask("hold")
    assert not refused.success and "connect" in refused.message
    terminal.change(lambda bus: setattr(bus.servo(3), "silent", False))
    assert operator.ask("connect").success
    operator.wait_for("holding")

    assert operator.ask("release").success
    operator.wait_for("limp")
    assert torques(terminal) == {False}
    assert operator.ask("hold").success
    operator.wait_for("holding")

    asked = time.monotonic()
    driver.send(signal.SIGINT)
    assert driver.wait() == 0
    assert time.monotonic() - asked < 4.0  # 2 s are promised, on a machine with nothing else to do
    assert torques(terminal) == {True}
    assert "Traceback" not in driver.output()


def test_a_cable_that_is_pulled_is_said_by_the_arm_controller_until_it_is_plugged_in_and_connected(
    ros: Any, processes: Any, operator: Operator, terminal: PseudoTerminal, calibration: Path, tmp_path: Path
) -> None:
    port = tmp_path / "arm"  # as /dev/serial/by-id, where an adapter has the same name each time
    port.symlink_to(terminal.path)
    operator.node.destroy_publisher(operator.joints)  # the arm controller is the one that commands
    safety: list[SafetyStatus] = []
    operator.node.create_subscription(SafetyStatus, "arm/safety", safety.append, LATCHED)
    controller = str(find_executable("serl_robots", "arm_controller", os.environ))
    parameters = ("-p", "task:=pick_cube_so101", "-p", "lockstep:=false")
    processes_of_the_arm = [
        started(processes, operator, terminal, str(port), calibration),
        processes.start(controller, "--ros-args", *parameters),
    ]
    ros.spin_until(lambda: safety and not safety[-1].reason, START_TIMEOUT, lambda: f"an arm to lead: {safety[-1:]}")

    terminal.close()
    operator.wait_for("fault")
    ros.spin_until(lambda: "the connection is lost" in safety[-1].reason, START_TIMEOUT, lambda: f"{safety[-1:]}")
    assert str(port) in safety[-1].reason and "./serl driver connect" in safety[-1].reason
    assert torques(terminal) == {True}

    with PseudoTerminal(terminal.bus) as again:
        port.unlink()
        port.symlink_to(again.path)
        assert operator.ask("connect").success
        operator.wait_for("holding")
        ros.spin_until(lambda: not safety[-1].reason, START_TIMEOUT, lambda: f"an arm to lead again: {safety[-1:]}")
        assert all(process.poll() is None for process in processes_of_the_arm)
        assert torques(terminal) == {True}
        for process in processes_of_the_arm:  # before the port is gone for ever
            assert process.stop() == 0


def test_a_second_commander_is_named_and_a_killed_driver_leaves_the_arm_at_its_last_target(
    ros: Any, driver: Any, operator: Operator, terminal: PseudoTerminal
) -> None:
    intruders = [ros.node(name) for name in ("first", "intruder")]
    kept = [node.create_publisher(Float64MultiArray, "gripper_controller/commands", LOOP_1) for node in intruders]

    def named() -> bool:
        status = operator.diagnostics.get("driver: commands")
        return status is not None and status.level == DiagnosticStatus.ERROR and "/intruder" in status.message

    ros.spin_until(named, START_TIMEOUT, lambda: f"the intruder named: {operator.diagnostics}")
    assert len(kept) == 2
    driver.send(signal.SIGKILL)
    driver.wait()
    assert torques(terminal) == {True}


def test_who_else_commands_the_arm_is_named(ros: Any, driver: Any, operator: Operator) -> None:
    intruder = ros.node("intruder")
    intruder.create_publisher(PoseStamped, "target_pose", RELIABLE_1)
    intruder.create_publisher(JointTrajectory, "joint_trajectory_controller/joint_trajectory", RELIABLE_1)

    def said() -> str:
        status = operator.diagnostics.get("driver: commands")
        return "" if status is None or status.level != DiagnosticStatus.ERROR else status.message

    ros.spin_until(lambda: "/intruder on" in said(), START_TIMEOUT, said)
    assert "/operator on /joint_trajectory_controller/joint_trajectory" in said()
    assert "target_pose" not in said(), "where there is one alone"
