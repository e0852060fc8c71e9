# SPDX-License-Identifier: Apache-2.0
"""Nothing ends or silences the node that stops the arm: bad input, bugs in callbacks, reasons in any order."""

import itertools
import math
import os
import signal
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")
from arm_graph import Graph
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from serl_robots.arm_controller_node import ArmControllerNode
from serl_robots.control.arm_controller import ArmController
from serl_ros.execution.faults import describe, report_fault
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.action import MoveTo
from serl_interfaces.msg import ActionCommand, EpisodeStatus, SafetyStatus

pytestmark = pytest.mark.graph

QUICK = {"limits.stale_timeout": 0.06, "limits.joint_state_timeout": 0.2, "human_timeout": 0.05}
STILL = (0.0, 0.0, 0.0, 0.0)


class Broken(RuntimeError):
    """What the bugs of these tests raise."""


def stop_and_release(graph: Graph) -> None:
    """The e-stop answers, shows, and is released."""
    assert graph.call(SetBool, "arm/estop", SetBool.Request(data=True)).success
    graph.ros.spin_until(lambda: graph.safety[-1].estop, what="the e-stop on arm/safety")
    assert graph.safety[-1].mode == SafetyStatus.MODE_ESTOP
    assert graph.call(Trigger, "arm/reset_estop", Trigger.Request()).success
    graph.ros.spin_until(lambda: not graph.safety[-1].estop, what="the release on arm/safety")
    assert graph.safety[-1].mode != SafetyStatus.MODE_ESTOP


class Reasons:
    """Brings about everything that `arm/safety` can give as a reason."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.number = 0
        self.texts = {
            "estop": "e-stop is latched",
            "fault": "internal error",
            "action": "found nan",
            "stale": "no command for",
            "move_to": "move_to is running",
            "joint_states": "no joint_states for",
            "person": "no answer of the person",
        }

    def bring_about(self, name: str) -> None:
        getattr(self, name)()

    def estop(self) -> None:
        self.graph.call(SetBool, "arm/estop", SetBool.Request(data=True))

    def fault(self) -> None:
        self.graph.controller._report("test", Broken("a bug"))

    def action(self) -> None:
        self.number += 1
        self.graph.act(self.number, math.nan, 0.0, 0.0, 0.0, episode=self.number)

    def stale(self) -> None:
        self.number += 1
        self.graph.act(0, *STILL, episode=self.number)

    def person(self) -> None:
        self.number += 1
        mode = EpisodeStatus.MODE_TRAINING
        self.graph.episode.publish(EpisodeStatus(episode=self.number, mode=mode, human_expected=True))
        self.graph.act(0, *STILL, episode=self.number)

    def move_to(self) -> None:
        self.graph.mover.send_goal_async(MoveTo.Goal(name="ready", velocity_scaling=0.05))
        safety, mode = self.graph.controller._controller.safety, SafetyStatus.MODE_MOVE_TO
        if not safety.estop and self.graph.bridge.publishes:
            self.graph.ros.spin_until(lambda: safety.mode == mode, what="the motion")
        self.stale()

    def joint_states(self) -> None:
        self.graph.bridge.publishes = False

    def end(self) -> None:
        """Nothing is in the way any more."""
        self.graph.bridge.publishes = True
        self.graph.call(Trigger, "arm/reset_estop", Trigger.Request())
        if not self.graph.bridge.lockstep:
            states = len(self.graph.states)
            self.graph.ros.spin_until(lambda: len(self.graph.states) > states + 1)
        self.graph.call(SetBool, "arm/estop", SetBool.Request(data=True))  # ends motions
        self.graph.call(Trigger, "arm/reset_estop", Trigger.Request())


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_every_two_reasons_in_both_orders(make_graph: Callable[..., Graph], is_lockstep: bool) -> None:
    graph = make_graph(lockstep=is_lockstep, **{**QUICK, "limits.joint_state_timeout": 5.0 if is_lockstep else 0.2})
    reasons = Reasons(graph)
    names = ["estop", "fault", "action", "stale", "move_to", "person" if is_lockstep else "joint_states"]
    controller = graph.controller._controller
    for first, second in itertools.permutations(names, 2):
        for name in (first, second):
            reasons.bring_about(name)
            latched = controller.safety.estop and name not in ("estop", "fault")
            blind = not graph.bridge.publishes and name in ("stale", "move_to")
            moving = name in ("stale", "person") and first == "move_to"
            if not (latched or blind or moving or (first == "fault" and name == "estop")):
                text = reasons.texts[name]
                graph.ros.spin_until(lambda t=text: t in controller.safety.reason, what=f"{first}, {second}: {text}")
        stopped = bool({first, second} & {"estop", "fault"})
        graph.ros.spin_until(lambda s=stopped: graph.safety[-1].estop == s, what=f"{first}, {second} on arm/safety")
        stop_and_release(graph)
        reasons.end()
    graph.act(1, 1.0, 0.0, 0.0, 0.0, episode=10_000)
    graph.ros.spin_until(lambda: graph.executed and graph.executed[-1].episode == 10_000, what="a step at last")


class BuggyController(ArmController):
    """Raises where it is told to."""

    buggy = ""

    def __getattribute__(self, name: str) -> Any:
        if name == type(self).buggy:
            raise Broken(name)
        return super().__getattribute__(name)


class BuggyNode(ArmControllerNode):
    """The same for the node's own methods."""

    buggy: frozenset[str] = frozenset()

    def __getattribute__(self, name: str) -> Any:
        if name in type(self).buggy:
            raise Broken(name)
        return super().__getattribute__(name)

    def _make_controller(self) -> ArmController:
        return BuggyController(
            self._task, self._robot, self._kinematics, lockstep=self._lockstep, human_timeout=self._human_timeout
        )


@pytest.fixture
def no_bugs() -> Iterator[None]:
    yield
    BuggyController.buggy, BuggyNode.buggy = "", frozenset()


EVENTS: dict[str, Callable[[Graph], object]] = {
    "on_state": lambda graph: graph.bridge.publish(10_000_000),
    "on_policy": lambda graph: graph.act(0, *STILL, episode=50),
    "on_teleop": lambda graph: graph.teleop.publish(ActionCommand(active=True, action=array("f", STILL))),
    "on_episode": lambda graph: graph.episode.publish(EpisodeStatus(episode=51, mode=EpisodeStatus.MODE_TRAINING)),
    "on_timer": lambda _graph: None,
    "move_to_joints": lambda graph: graph.mover.send_goal_async(MoveTo.Goal(name="ready")),
    "on_estop": lambda graph: graph.call(SetBool, "arm/estop", SetBool.Request(data=True)),
}


@pytest.mark.usefixtures("no_bugs")
@pytest.mark.parametrize("with_it", [(), ("get_logger",), ("_set_diagnostics", "_diagnostics"), ("_publish_state",)])
def test_a_bug_in_any_callback_holds_the_arm_and_is_released(
    make_graph: Callable[..., Graph], with_it: tuple[str, ...]
) -> None:
    graph = make_graph(lockstep=False, node_class=BuggyNode)
    seen: list[DiagnosticArray] = []
    graph.node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, RELIABLE_10)
    for number, (method, happen) in enumerate(EVENTS.items()):
        graph.act(0, 0.2, 0.0, 0.0, 0.0, episode=100 + number)
        graph.ros.spin_until(lambda n=number: graph.executed and graph.executed[-1].episode == 100 + n, what=method)
        BuggyController.buggy, BuggyNode.buggy = method, frozenset(with_it)
        happen(graph)
        graph.ros.spin_until(lambda: graph.safety[-1].estop, what=f"the fault of {method}")
        assert "internal error" in graph.safety[-1].reason and "Broken" in graph.safety[-1].reason
        BuggyController.buggy, BuggyNode.buggy = "", frozenset()
        held = len(graph.bridge.log)
        graph.ros.spin_until(lambda h=held: graph.bridge.log and len(graph.bridge.log) >= h, what="the hold")
        assert graph.call(SetBool, "arm/estop", SetBool.Request(data=True)).success
        assert graph.call(Trigger, "arm/reset_estop", Trigger.Request()).success
        graph.ros.spin_until(lambda: not graph.safety[-1].estop)
    stop_and_release(graph)


@pytest.mark.usefixtures("no_bugs")
@pytest.mark.parametrize("also", ["on_fault", "safety"])
def test_where_even_the_controller_fails_the_last_command_is_held_until_the_reset(
    make_graph: Callable[..., Graph], also: str
) -> None:
    graph = make_graph(lockstep=False, node_class=BuggyNode)
    graph.act(0, 1.0, 0.0, 0.0, 0.0)
    graph.ros.spin_until(lambda: graph.executed and "pose" in dict(graph.bridge.log), what="the step")
    last = dict(graph.bridge.log)["pose"]
    BuggyController.buggy = also
    graph.controller._report("test", Broken("a bug"))
    graph.ros.spin_until(lambda: graph.controller._broken, what="the fault")
    graph.ros.spin_until(lambda: len([1 for name, _ in graph.bridge.log if name == "pose"]) > 1, what="the hold")
    assert [message for name, message in graph.bridge.log if name == "pose"][-1].pose == last.pose
    BuggyController.buggy = ""
    graph.ros.spin_until(lambda: graph.safety[-1].estop)
    executed = len(graph.executed)
    graph.act(1, 1.0, 0.0, 0.0, 0.0)
    assert graph.call(SetBool, "arm/estop", SetBool.Request(data=True)).success
    result = graph.result(graph.move(name="ready"))
    assert result.termination_reason == "rejected" and "internal error" in result.message
    assert len(graph.executed) == executed, "nothing but the hold"
    assert graph.call(Trigger, "arm/reset_estop", Trigger.Request()).success
    graph.ros.spin_until(lambda: not graph.safety[-1].estop)
    states = len(graph.states)
    graph.ros.spin_until(lambda: len(graph.states) > states + 1)
    graph.act(0, 0.5, 0.0, 0.0, 0.0, episode=2)
    graph.ros.spin_until(lambda: graph.executed[-1].episode == 2)
    stop_and_release(graph)


@pytest.mark.usefixtures("no_bugs")
def test_a_hold_that_cannot_be_published_is_published_as_soon_as_it_can(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph(lockstep=False, node_class=BuggyNode)
    BuggyNode.buggy = frozenset({"_pose_publisher"})
    graph.act(0, 1.0, 0.0, 0.0, 0.0)
    graph.ros.spin_until(lambda: graph.safety[-1].estop, what="the fault")
    assert "pose" not in [name for name, _ in graph.bridge.log]
    BuggyNode.buggy = frozenset()
    graph.ros.spin_until(lambda: "pose" in [name for name, _ in graph.bridge.log], what="the hold")
    stop_and_release(graph)


def odd_messages() -> Iterator[tuple[str, Any]]:
    """(topic, message) that nobody should send."""
    for active, action in itertools.product((True, False), ([], [math.nan] * 4, [0.0] * 1000, [1e38] * 4, [0.0] * 4)):
        for topic in ("policy/action", "teleop/action"):
            yield topic, ActionCommand(active=active, action=array("f", action))
            yield topic, ActionCommand(episode=2**64 - 1, step=2**32 - 1, active=active, action=array("f", action))
    yield "policy/action", ActionCommand(episode=1)
    for mode in (0, 1, 200):
        yield "episode", EpisodeStatus(mode=mode, episode=2**64 - 1, seed=-(2**63), human_expected=True)
    yield "episode", EpisodeStatus()
    names = [f"panda_joint{k}" for k in range(1, 8)] + ["panda_finger_joint1", "panda_finger_joint2"]
    for value in (math.nan, math.inf, 1e308, 1e30, 50.0):
        yield "joint_states", JointState(name=names, position=[value] * 9, velocity=[0.0] * 9)
    yield "joint_states", JointState()
    yield "joint_states", JointState(name=names)
    yield "joint_states", JointState(name=names, position=[0.0] * 9)
    yield "joint_states", JointState(name=["\x1b[31m\n"] * 1000, position=[0.0], velocity=[0.0] * 3)
    message = JointState(name=names, position=[0.0] * 9, velocity=[math.nan] * 9)
    message.header.stamp.sec = -(2**31)
    yield "joint_states", message


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_odd_messages_are_no_faults(make_graph: Callable[..., Graph], is_lockstep: bool) -> None:
    graph = make_graph(lockstep=is_lockstep)
    publishers = {
        "policy/action": graph.policy,
        "teleop/action": graph.teleop,
        "episode": graph.episode,
        "joint_states": graph.bridge.publisher,
    }
    for topic, message in odd_messages():
        publishers[topic].publish(message)
        graph.ros.executor.spin_once(timeout_sec=0.01)
        graph.ros.executor.spin_once(timeout_sec=0.01)
        assert not graph.controller._controller.safety.estop, (topic, graph.controller._controller.safety.reason)
    nan = PoseStamped()
    nan.header.frame_id = "panda_link0"
    nan.pose.position.x = nan.pose.orientation.w = math.nan
    for goal in (MoveTo.Goal(), MoveTo.Goal(kind=2, pose=nan), MoveTo.Goal(name="ready", velocity_scaling=math.nan)):
        handle = graph.mover.send_goal_async(goal)
        graph.ros.spin_until(handle.done)
        assert graph.result(handle.result()).termination_reason == "rejected"
    stop_and_release(graph)


def test_errors_in_what_is_rclpys_own_stop_no_arm_and_all_others_do(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph(lockstep=False)
    controller = graph.controller
    own = {"/episode", "/joint_states", "/policy/action", "/teleop/action", "/arm/estop", "/arm/reset_estop"}
    own.add("/driver/status")
    served = [*controller.subscriptions, *controller.services]
    names = {describe(entity).split(" ", 1)[1] for entity in served}
    assert own < names and any(name.endswith("set_parameters") for name in names)
    for entity in served:
        where = describe(entity)
        report_fault(controller, where, Broken("a bug"))
        assert controller._controller.safety.estop == (where.split(" ", 1)[1] in own), where
        controller._controller.reset_estop()
    for where in ("timer of 0.02 s", "task", "GuardedActionServer"):
        report_fault(controller, where, Broken("a bug"))
        assert controller._controller.safety.estop, where
        controller._controller.reset_estop()


def test_who_else_commands_the_arm_is_named(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph(lockstep=False)
    seen: list[Any] = []
    graph.node.create_subscription(DiagnosticArray, "/diagnostics", lambda a: seen.extend(a.status), RELIABLE_10)

    def last() -> Any:
        return next((status for status in reversed(seen) if "commands" in status.name), None)

    graph.ros.spin_until(lambda: last() is not None and "alone" in last().message, what="nobody else")
    graph.node.create_publisher(PoseStamped, "target_pose", RELIABLE_1)
    second = graph.ros.add(ArmControllerNode(context=graph.ros.context))
    name = graph.node.get_fully_qualified_name()
    own = second.get_fully_qualified_name()
    graph.ros.spin_until(
        lambda: f"by {own} on /target_pose, {name} on /target_pose, {own} on /gripper" in last().message
    )
    assert last().level == DiagnosticStatus.ERROR


def test_a_clock_that_rclpy_cannot_read_stops_no_arm_and_sigusr1_does(processes: Any, ros: Any) -> None:
    main = "from serl_robots.arm_controller_node import main; main()"
    process = processes.start(sys.executable, "-c", main, "--ros-args", "-p", "use_sim_time:=true")
    node = ros.node("somebody")
    safety: list[SafetyStatus] = []
    seen: list[DiagnosticArray] = []
    node.create_subscription(SafetyStatus, "arm/safety", safety.append, LATCHED)
    node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, RELIABLE_10)
    clock = node.create_publisher(Clock, "/clock", RELIABLE_10)
    ros.spin_until(lambda: safety and node.count_subscribers("/clock"), timeout=30.0)
    message = Clock()
    message.clock.sec = -5
    clock.publish(message)
    ros.spin_until(lambda: any("clock" in status.message for array in seen for status in array.status), what="an error")
    assert not safety[-1].estop
    os.kill(process.pid, signal.SIGUSR1)
    ros.spin_until(lambda: safety[-1].estop, what="the e-stop")
    assert process.poll() is None
