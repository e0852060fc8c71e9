# SPDX-License-Identifier: Apache-2.0
"""The node `teleop` as a process: a driver publishes on one side, an arm controller listens on the other."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

try:
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import TwistStamped
    from sensor_msgs.msg import Joy
    from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_10
    from serl_ros.sender import REAL_PERSON
    from std_srvs.srv import Trigger

    from serl_interfaces.msg import ActionCommand, ArmState, SafetyStatus, TeleopEvent
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

from leader_rig import PluggedInLeader
from serl_teleop.devices.hid.emulated import PipedSpaceMouse

pytestmark = pytest.mark.graph

AXES = 6


class Graph:
    """A driver of a device, an arm that stands half open, and who listens."""

    def __init__(self, ros: Any, processes: Any, *parameters: str, devices: str = "joy") -> None:
        self.ros, node = ros, ros.node("graph")
        self.actions: list[ActionCommand] = []
        self.events: list[TeleopEvent] = []
        node.create_subscription(ActionCommand, "teleop/action", self.actions.append, RELIABLE_10)
        node.create_subscription(TeleopEvent, "teleop/event", self.events.append, RELIABLE_10)
        self.statuses: dict[str, str] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE_10)
        self.state = ArmState(gripper_target=0.04)
        self.state.tcp_pose.orientation.w = self.state.target_pose.orientation.w = 1.0
        arm = node.create_publisher(ArmState, "arm/state", LOOP_1)
        self.safety = node.create_publisher(SafetyStatus, "arm/safety", LATCHED)
        joys = node.create_publisher(Joy, "joy", RELIABLE_10)
        twists = node.create_publisher(TwistStamped, "teleop/twist", RELIABLE_10)
        self.joy: Joy | None = Joy(axes=[0.0] * AXES, buttons=[0, 0])
        self.twist = TwistStamped()

        def tick() -> None:
            arm.publish(self.state)
            twists.publish(self.twist)
            if self.joy is not None:
                joys.publish(self.joy)

        node.create_timer(0.02, tick)
        self.release = node.create_client(Trigger, "teleop/release")
        parameters = (*parameters, f"devices:=[{devices}]")
        given = [word for parameter in parameters for word in ("-p", parameter)]
        program = "from serl_teleop.teleop_node import main; main()"
        self.process = processes.start(sys.executable, "-c", program, "--ros-args", *given)
        self.wait(self.release.service_is_ready, "the node")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses.update((status.name, status.message) for status in message.status)

    def wait(self, condition: Any, what: str) -> None:
        self.ros.spin_until(condition, 40.0, lambda: f"{what}: {self.process.output()}")

    def says(self, component: str, text: str) -> None:
        """Wait until /diagnostics says so of a component."""
        self.wait(lambda: text in self.statuses.get(f"teleop: {component}", ""), f"{component}: {text}")

    def push(self, x: float) -> None:
        """Deflect the axis x until the person leads, as a hand does: never quite the same."""
        heard = len(self.actions)

        def leads() -> bool:
            assert self.joy is not None
            self.joy.axes[0] = x if self.joy.axes[0] != x else x * 0.99
            return len(self.actions) > heard and self.actions[-1].active and any(self.actions[-1].action[:3])

        self.wait(leads, "the person to lead")

    def led_by(self, sender: str, priority: int = REAL_PERSON) -> None:
        """Who leads by the arm's controller; an empty name: nobody does."""
        mode = SafetyStatus.MODE_HUMAN if sender else SafetyStatus.MODE_POLICY
        self.safety.publish(SafetyStatus(mode=mode, leader=sender, leader_priority=priority))

    def let_go(self) -> None:
        """Let the device come to rest, and wait until the person has let go."""
        assert self.joy is not None
        self.joy.axes[0] = 0.0
        self.wait(lambda: not self.actions[-1].active, "the person to let go")


def test_a_person_leads_by_joy_and_lets_go(ros, processes):
    graph = Graph(ros, processes, "joy.deadband:=0.1", "joy.axes:=[-left,-forward,up,roll,pitch,yaw]")
    graph.says("joy", "is at rest")
    assert not graph.actions, "who does not lead says nothing"
    graph.push(0.5)
    graph.joy.axes[0] = 1.0
    action = graph.actions[-1]
    assert (action.synchronous, action.episode, action.step) == (False, 0, 0)
    graph.wait(lambda: list(graph.actions[-1].action) == [0.0, -1.0, 0.0, 0.0], "half open to be held half open")
    stamps = [(a.header.stamp.sec, a.header.stamp.nanosec) for a in graph.actions]
    assert stamps == sorted(set(stamps)), "every message is new"
    graph.let_go()
    assert list(graph.actions[-1].action) == [0.0, 0.0, 0.0, 0.0]


def test_buttons_say_their_words_and_move_the_gripper(ros, processes):
    graph = Graph(ros, processes, "joy.buttons:=['0=toggle','1=success']")
    graph.says("joy", "is at rest")
    graph.joy.buttons = [0, 1]
    graph.wait(lambda: graph.events, "a word")
    assert (graph.events[0].device, graph.events[0].event) == ("joy", TeleopEvent.SUCCESS)
    assert not graph.actions, "a word is no takeover"
    graph.joy.buttons = [1, 0]
    graph.wait(lambda: graph.actions and graph.actions[-1].action[3] == -1.0, "the gripper to close")
    assert len(graph.events) == 1


def test_a_driver_that_dies_while_the_person_leads_holds_the_arm_until_somebody_agrees(ros, processes):
    graph = Graph(ros, processes, "joy.timeout:=0.2")
    graph.says("joy", "is at rest")
    graph.push(0.8)
    joy, graph.joy = graph.joy, None
    graph.says("joy", "was lost while it led")
    assert graph.actions[-1].active
    assert list(graph.actions[-1].action) == [0.0, 0.0, 0.0, 0.0]
    for mode in (SafetyStatus.MODE_ESTOP, SafetyStatus.MODE_IDLE):
        graph.state.mode, heard = mode, len(graph.actions)
        graph.wait(lambda heard=heard: len(graph.actions) > heard + 20, "the arm to be held: a stop is no consent")
        assert graph.actions[-1].active
    answer = graph.release.call_async(Trigger.Request())
    graph.wait(lambda: answer.done() and not graph.actions[-1].active, "the policy to go on")
    assert answer.result().success
    joy.axes[0] = 0.0
    graph.joy = joy
    graph.says("joy", "is at rest")
    graph.push(0.8)


def test_a_device_that_is_deflected_through_an_e_stop_has_to_be_let_go(ros, processes):
    graph = Graph(ros, processes)
    graph.says("joy", "is at rest")
    graph.push(0.8)
    graph.state.mode = SafetyStatus.MODE_ESTOP
    graph.wait(lambda: not graph.actions[-1].active, "the person to lead no longer")
    graph.state.mode = SafetyStatus.MODE_IDLE
    graph.says("joy", "has to be let go first")
    assert not graph.actions[-1].active
    graph.joy.axes[0] = 0.0
    graph.says("joy", "is at rest")
    graph.push(0.8)


def test_whoever_leads_from_elsewhere_is_not_interfered_with_and_a_device_has_to_be_let_go_then(ros, processes):
    graph = Graph(ros, processes)
    graph.says("joy", "is at rest")
    graph.led_by("a page")
    graph.says("person", "from elsewhere")
    graph.joy.axes[0] = 0.8
    graph.says("joy", "has to be let go first")
    graph.led_by("")
    graph.says("person", "nobody leads")
    assert not graph.actions
    graph.joy.axes[0] = 0.0
    graph.says("joy", "is at rest")
    graph.push(0.8)
    own = graph.actions[-1].sender
    assert own.startswith("/teleop ")
    graph.led_by(own)
    heard = len(graph.actions)
    graph.wait(lambda: len(graph.actions) > heard + 40, "the person to lead on, whose lead it is")
    assert all(action.active for action in graph.actions[heard:])
    graph.led_by("a page that began in the same moment")
    graph.wait(lambda: not graph.actions[-1].active, "the one who was not followed to let go")


def test_who_leads_with_a_lower_priority_is_taken_over_from(ros, processes):
    graph = Graph(ros, processes, "priority:=7")
    graph.says("joy", "is at rest")
    graph.led_by("a page", priority=6)
    graph.push(0.8)
    assert graph.actions[-1].priority == 7


def test_the_first_device_of_two_leads_and_numbers_that_are_none_are_refused(ros, processes):
    graph = Graph(ros, processes, "twist.full_linear:=0.5", devices="joy,twist")
    graph.says("twist", "is at rest")
    graph.twist.twist.linear.y = 0.5
    graph.wait(lambda: graph.actions and graph.actions[-1].action[1] == 1.0, "the twist to lead")
    graph.push(0.9)
    graph.wait(lambda: graph.actions[-1].action[1] == 0.0 and graph.actions[-1].action[0] > 0.5, "joy to lead")
    graph.let_go()
    graph.twist.twist.linear.y = 0.0
    graph.says("twist", "is at rest")
    graph.twist.twist.linear.y = math.nan
    graph.says("messages", "refused on teleop/twist")


def test_a_space_mouse_that_is_pulled_out_holds_the_arm_and_leads_again_when_it_is_back(ros, processes, tmp_path):
    mouse = PipedSpaceMouse(tmp_path)
    parameters = (f"spacemouse.sysfs:={mouse.sysfs}", f"spacemouse.dev:={mouse.dev}")
    graph = Graph(ros, processes, *parameters, devices="spacemouse")
    graph.says("spacemouse", "is at rest")

    def pushed(counts):
        mouse.move(0, -counts, 0, 0, 0, 0)
        return graph.actions and graph.actions[-1].active and graph.actions[-1].action[0] > 0.5

    graph.wait(lambda: pushed(300), "the person to lead")
    mouse.unplug()
    graph.says("spacemouse", "was lost while it led")
    assert list(graph.actions[-1].action) == [0.0, 0.0, 0.0, 0.0]
    mouse.plug_in()
    graph.says("spacemouse", "take it to go on")
    graph.wait(lambda: pushed(300), "the person to lead again")
    mouse.move(0, 0, 0, 0, 0, 0)
    graph.wait(lambda: not graph.actions[-1].active, "the person to let go")


def test_a_leader_arm_leads_by_hand_and_holds_the_robot_when_it_is_pulled_out(ros, processes, tmp_path):
    leader = PluggedInLeader(tmp_path)
    graph = Graph(ros, processes, *leader.parameters, devices="leader")
    graph.says("leader", "is at rest")
    graph.wait(lambda: leader.terminal.bus.servo(1).torque_enabled, "the leader to follow the robot")
    assert not graph.actions

    def turned(steps):
        leader.turn(1, steps)
        return graph.actions and graph.actions[-1].active and any(graph.actions[-1].action[:3])

    graph.wait(lambda: turned(40), "the person to lead")
    assert graph.actions[-1].action[1] < -0.5, "the leader pans to the right"
    leader.unplug()
    graph.says("leader", "was lost while it led")
    assert list(graph.actions[-1].action) == [0.0, 0.0, 0.0, 0.0]
    answer = graph.release.call_async(Trigger.Request())
    graph.wait(lambda: answer.done() and not graph.actions[-1].active, "the policy to go on")
    leader.plug_in()
    graph.says("leader", "is at rest")
    graph.wait(lambda: turned(40), "the person to lead again")
    leader.turn(1, None)
    graph.wait(lambda: not graph.actions[-1].active, "the person to have let go")
    leader.unplug()


@pytest.mark.parametrize(
    ("parameter", "named"),
    [
        ("devices:=['wand']", "wand"),
        ("devices:=['joy','joy']", "each once"),
        ("spacemouse.axes:=[sideways,left,up,roll,pitch,yaw]", "'sideways'"),
        ("rate:=1.0", "rate"),
    ],
)
def test_parameters_that_cannot_be_meant_end_the_node_with_a_line(processes, ros, parameter, named):
    program = "from serl_teleop.teleop_node import main; main()"
    process = processes.start(sys.executable, "-c", program, "--ros-args", "-p", parameter)
    assert process.wait() == 2
    assert named in process.output()
