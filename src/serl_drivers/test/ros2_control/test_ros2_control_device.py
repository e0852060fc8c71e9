# SPDX-License-Identifier: Apache-2.0
"""The driver by ros2_control's topics, actions and services, which an arm without physics offers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from patience import PATIENCE, eventually

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Duration
from control_msgs.action import FollowJointTrajectory, ParallelGripperCommand
from controller_manager_msgs.msg import ControllerState
from controller_manager_msgs.srv import ListControllers
from rclpy.action import ActionClient, ActionServer, GoalResponse
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from serl_drivers.device import DriverError
from serl_drivers.driver import Driver, DriverSettings, State
from serl_drivers.mock_hardware.controllers import FORWARD, TRAJECTORY
from serl_drivers.mock_hardware_node import MockHardwareNode
from serl_drivers.ros2_control import gripper_node
from serl_drivers.ros2_control.controller_manager_node import ControllerManager
from serl_drivers.ros2_control.controllers import Controller
from serl_drivers.ros2_control.device_node import Ros2ControlDevice
from serl_drivers.ros2_control.gripper_node import ActionGripper
from serl_drivers.ros2_control.settings import Ros2ControlSettings
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot
from serl_ros.execution.executor import FastExecutor
from serl_ros.qos import RELIABLE_10
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

pytestmark = pytest.mark.graph

PERIOD = 0.01
CONTROLLERS = {"joint_trajectory": TRAJECTORY, "forward_position": FORWARD}


class Graph:
    """Nodes of one test, spun by a thread, and a driver that the test turns."""

    def __init__(self, ros: Any) -> None:
        self.context = ros.context
        self._executor = FastExecutor(context=ros.context)
        self._nodes: list[Node] = []
        self.at_end: list[Callable[[], object]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self.robot = load_robot("panda")
        self.namespace = "/"
        self.statuses: dict[str, str] = {}
        listener = self.add(Node("listener", context=ros.context))
        listener.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE_10)
        self._thread.start()

    def _spin(self) -> None:
        while not self._over.is_set():
            self._executor.spin_once(0.05)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses |= {status.name: status.message for status in message.status}

    def add(self, node: Node) -> Node:
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def hardware(self, **parameters: Any) -> MockHardwareNode:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = MockHardwareNode(
            context=self.context,
            namespace=self.namespace,
            parameter_overrides=[*overrides, Parameter("frame_prefix", value="")],
        )
        self.add(node)
        return node

    def device(self, **settings: Any) -> Ros2ControlDevice:
        device = Ros2ControlDevice(self.robot, Ros2ControlSettings(**settings))
        self.add(device.open_node(self.context, self.namespace, self.robot.base_frame))
        return device

    def driver(self, device: Ros2ControlDevice) -> Driver:
        kinematics = Kinematics(self.robot)
        inverse = InverseKinematics(self.robot, Kinematics(self.robot), PERIOD)
        return Driver(device, self.robot, kinematics, inverse, DriverSettings(period=PERIOD, gripper_speed=100.0))

    def remove(self, node: Node) -> None:
        self._executor.remove_node(node)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._executor.shutdown()
        for destroy in self.at_end:  # no sooner: what is being spun must not be destroyed
            destroy()
        while self._nodes:
            self._nodes.pop().destroy_node()


@pytest.fixture
def graph(ros: Any) -> Iterator[Graph]:
    graph = Graph(ros)
    yield graph
    graph.close()


def turn(driver: Driver, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        now = time.monotonic()
        assert now < deadline, driver.reason
        driver.tick(now)
        time.sleep(max(0.0, now + PERIOD - time.monotonic()))


def active(hardware: MockHardwareNode) -> set[str]:
    controllers: tuple[Controller, ...] = hardware.controllers.all
    return {each.name for each in controllers if each.state == "active"} & set(CONTROLLERS.values())


@pytest.mark.parametrize(
    ("low_level", "gripper"),
    [
        ("joint_trajectory", "ParallelGripperCommand"),
        ("forward_position", "GripperCommand"),
    ],
)
def test_each_controller_takes_the_arm_where_it_is_told_and_is_given_back(
    graph: Graph, low_level: str, gripper: str
) -> None:
    graph.namespace = f"/{gripper.lower()}"  # a process that knows an action by one type takes no other
    first = FORWARD if low_level == "joint_trajectory" else TRAJECTORY
    hardware = graph.hardware(active=first, gripper_action=gripper)
    driver = graph.driver(graph.device(low_level=low_level))
    turn(driver, lambda: driver.state is State.HOLDING)
    assert active(hardware) == {CONTROLLERS[low_level]}
    home = np.array(graph.robot.configuration("home"))
    assert hardware.arm.reading.positions == pytest.approx(home)  # nothing has moved it
    goal = home + np.array([0.15, 0.1, -0.05, 0.1, 0.05, 0.1, 0.2])
    kinematics = Kinematics(graph.robot)
    wanted = kinematics.tcp(goal)

    def is_there() -> bool:
        tool = kinematics.tcp(hardware.arm.reading.positions)
        near = np.linalg.norm(tool.position - wanted.position) < 0.002 and tool.angle(wanted) < 0.01
        return bool(near and abs(hardware.arm.gripper_width - 0.03) < 0.001)

    def arrived() -> bool:
        driver.follow_joints(JointTrajectoryPlan([0.0, 0.1], [home, goal]), time.monotonic())
        driver.open_to(0.03, time.monotonic())
        return is_there()

    turn(driver, arrived)
    assert driver.state is State.ACTIVE
    turn(driver, lambda: driver.state is State.HOLDING)
    assert is_there()
    assert hardware.arm.reading.positions == pytest.approx(goal, abs=0.005)
    driver.close(limp=False)
    assert active(hardware) == {first}


def test_a_switch_whose_answer_comes_too_late_is_given_back_all_the_same(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware, device = graph.hardware(active=FORWARD), graph.device()
    switch = ControllerManager.switch

    def late(manager: ControllerManager, *arguments: Any) -> None:
        switch(manager, *arguments)
        monkeypatch.undo()
        raise DriverError("it has not answered")

    monkeypatch.setattr(ControllerManager, "switch", late)
    driver = graph.driver(device)
    turn(driver, lambda: driver.state is State.HOLDING)
    assert active(hardware) == {TRAJECTORY}
    driver.close(limp=False)
    assert active(hardware) == {FORWARD}


def test_a_controller_that_somebody_else_has_switched_off_is_a_fault_by_name_and_stays_theirs(graph: Graph) -> None:
    hardware = graph.hardware()
    driver = graph.driver(graph.device(low_level="forward_position"))
    turn(driver, lambda: driver.state is State.HOLDING)
    assert hardware.controllers.switch([TRAJECTORY], [FORWARD]) == ""
    turn(driver, lambda: driver.state is State.FAULT)
    assert "'forward_position_controller' is inactive" in driver.reason
    driver.close(limp=False)
    assert active(hardware) == {TRAJECTORY}


@pytest.mark.parametrize("low_level", ["joint_trajectory", "forward_position"])
def test_a_second_one_on_the_controller_s_topic_is_a_fault_by_name_until_somebody_connects_anew(
    graph: Graph, low_level: str
) -> None:
    hardware = graph.hardware()
    driver = graph.driver(graph.device(low_level=low_level))
    turn(driver, lambda: driver.state is State.HOLDING)
    kind, name = (
        (JointTrajectory, "joint_trajectory") if low_level == "joint_trajectory" else (Float64MultiArray, "commands")
    )
    publisher = hardware.create_publisher(kind, f"{CONTROLLERS[low_level]}/{name}", RELIABLE_10)
    turn(driver, lambda: driver.state is State.FAULT)
    assert f"others too: /mock_hardware on {publisher.topic_name};" in driver.reason
    driver.ask("connect")
    turn(driver, lambda: driver.state is State.HOLDING)
    turn(driver, lambda: driver.state is State.FAULT)  # it is still there
    hardware.destroy_publisher(publisher)
    eventually(lambda: "alone" in graph.statuses["ros2_control_client: commands"])
    driver.ask("connect")
    turn(driver, lambda: driver.state is State.HOLDING)


@pytest.mark.parametrize(
    "action", ["joint_trajectory_controller/follow_joint_trajectory", "gripper_controller/gripper_cmd"]
)
def test_a_goal_of_somebody_else_at_the_controllers_is_a_fault_and_own_ones_are_none(graph: Graph, action: str) -> None:
    hardware = graph.hardware()
    driver = graph.driver(graph.device())
    turn(driver, lambda: driver.state is State.HOLDING)
    home = np.array(graph.robot.configuration("home"))

    def gripped() -> bool:
        driver.follow_joints(JointTrajectoryPlan([0.0, 0.1], [home, home + 0.05]), time.monotonic())
        driver.open_to(0.03, time.monotonic())
        return abs(hardware.arm.gripper_width - 0.03) < 0.001

    turn(driver, gripped)
    assert driver.state is State.ACTIVE
    if "gripper" in action:
        kind: Any = ParallelGripperCommand
        goal = kind.Goal()
        goal.command.position = [0.001]
    else:
        kind = FollowJointTrajectory
        goal = kind.Goal()
        point = JointTrajectoryPoint(positions=[*home], time_from_start=Duration(sec=30))
        goal.trajectory = JointTrajectory(joint_names=list(graph.robot.arm_joints), points=[point])
    client = ActionClient(hardware, kind, action)
    graph.at_end.append(client.destroy)
    eventually(client.server_is_ready)
    client.send_goal_async(goal)
    turn(driver, lambda: driver.state is State.FAULT)
    assert f"a goal of /{action} that is none of this driver's" in driver.reason


def test_a_controller_manager_that_has_died_with_a_question_is_asked_anew_when_it_is_back() -> None:
    client = MagicMock(call_async=lambda _: Future())  # questions that nobody answers
    manager = ControllerManager(MagicMock(create_client=lambda *_: client), "controller_manager")
    assert manager.look(0.0) is None
    unanswered = manager._pending
    assert manager.look(0.9) is None and manager._pending is unanswered
    assert manager.look(1.1) is None
    client.remove_pending_request.assert_called_once_with(unanswered)
    manager._pending.set_result(ListControllers.Response(controller=[ControllerState(name="arm", state="inactive")]))
    assert manager.look(1.6) == (Controller("arm", "inactive"),)


def test_hardware_that_falls_silent_is_a_fault(graph: Graph) -> None:
    hardware = graph.hardware()
    driver = graph.driver(graph.device())
    turn(driver, lambda: driver.state is State.HOLDING)
    graph.remove(hardware)
    turn(driver, lambda: driver.state is State.FAULT)
    assert "/joint_states" in driver.reason


def test_what_is_missing_is_said_by_name_with_what_to_do(graph: Graph) -> None:
    device = graph.device(forward_position_controller="forward_controller", low_level="forward_position")
    with pytest.raises(DriverError, match=r"no /controller_manager/list_controllers .*ros2_control started"):
        device.connect()
    hardware = graph.hardware(active=FORWARD)
    with pytest.raises(DriverError, match=r"no controller 'forward_controller'.*spawner forward_controller --inactive"):
        device.connect()
    with pytest.raises(DriverError, match=r"no gripper action /hand/gripper_cmd .*gripper_action"):
        graph.device(gripper_action="hand/gripper_cmd").connect()
    assert active(hardware) == {FORWARD}, "nothing is switched for an arm that cannot be driven"
    assert hardware.controllers.switch([TRAJECTORY], [FORWARD]) == ""
    with pytest.raises(DriverError, match=r"is inactive: switch it, `ros2 control switch_controllers --activate for"):
        graph.device(low_level="forward_position", switch=False).connect()


def test_a_grip_that_stalls_is_told_and_is_no_fault(graph: Graph) -> None:
    hardware = graph.hardware(object_width=0.04)
    driver = graph.driver(graph.device())
    turn(driver, lambda: driver.state is State.HOLDING)

    def told() -> bool:
        driver.open_to(0.0, time.monotonic())
        return "stalled" in graph.statuses.get("ros2_control_client: gripper", "")

    turn(driver, told)
    text = graph.statuses["ros2_control_client: gripper"]
    assert "/gripper_controller/gripper_cmd stalled on the way to 0.000 m, at 0.040 m" in text
    assert driver.state is State.ACTIVE and hardware.arm.gripper_width == pytest.approx(0.04)


def test_a_grip_that_is_refused_is_told_and_sent_again_until_it_is_taken_and_after_a_new_connection(
    graph: Graph,
) -> None:
    node = graph.hardware()
    answers, taken = [GoalResponse.REJECT], []

    def execute(goal: Any) -> ParallelGripperCommand.Result:
        taken.append(goal.request.command.position[0])
        goal.succeed()
        return ParallelGripperCommand.Result(reached_goal=True)

    server = ActionServer(
        node, ParallelGripperCommand, "hand/gripper_cmd", execute,
        goal_callback=lambda _: answers.pop() if answers else GoalResponse.ACCEPT,
    )  # fmt: skip
    told: list[tuple[bool, str]] = []
    gripper = ActionGripper(
        node, "hand/gripper_cmd", graph.robot.gripper, lambda *each: told.append(each), effort=5.0, tolerance=0.001
    )
    graph.at_end += [gripper.destroy, server.destroy]
    gripper.find(PATIENCE)
    gripper.move_to(0.02)
    eventually(lambda: len(told) == 2)
    assert told == [
        (True, "/hand/gripper_cmd refused to open to 0.020 m; its log says why"),
        (False, "/hand/gripper_cmd is open to 0.020 m"),
    ]
    assert taken == [0.01]
    gripper.find(PATIENCE)
    eventually(lambda: taken == [0.01, 0.01])


def test_a_gripper_that_never_answers_is_told_and_asked_again(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gripper_node, "_ANSWERED", 0.2)
    stopped = Node("stopped", context=graph.context)  # offers the action, and nobody spins it

    def execute(goal: Any) -> ParallelGripperCommand.Result:
        goal.succeed()
        return ParallelGripperCommand.Result()

    server = ActionServer(stopped, ParallelGripperCommand, "hand/gripper_cmd", execute)
    told: list[tuple[bool, str]] = []
    gripper = ActionGripper(
        graph.hardware(), "hand/gripper_cmd", graph.robot.gripper, lambda *each: told.append(each), effort=5.0,
        tolerance=0.001,
    )  # fmt: skip
    graph.at_end += [gripper.destroy, server.destroy]
    gripper.find(PATIENCE)
    gripper.move_to(0.02)
    eventually(lambda: bool(told))
    assert told[0][0] and "has not answered for 0.2 s whether it opens to 0.020 m" in told[0][1]
    graph.add(stopped)
    eventually(lambda: (False, "/hand/gripper_cmd is open to 0.020 m") in told)
