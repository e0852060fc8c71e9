# SPDX-License-Identifier: Apache-2.0
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from serl_robots.safety.limits import LIMIT_WORDS
from serl_ros.qos import LATCHED
from serl_teleop.console.graph_console import GraphConsole
from std_srvs.srv import SetBool

from serl_interfaces.msg import SafetyStatus
from serl_tasks import get_task


@pytest.fixture
def graph(ros):
    """A console, and a node that plays the actor and the arm."""
    node = ros.node("others")
    node.create_service(SetBool, "episode/pause", lambda _request, response: response)
    return ros, node, GraphConsole(ros.node("console"), get_task("pick_cube"))


def test_only_the_one_of_pause_and_resume_that_changes_something_can_be_pressed(graph):
    ros, node, console = graph
    ros.spin_until(lambda: console.state()["deeds"] == ["pause"])
    assert not console.state()["paused"]
    diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    ros.spin_until(lambda: diagnostics.get_subscription_count() > 0)
    for said, possible in (("paused", "resume"), ("going on", "pause")):
        diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name="actor: pause", message=said)]))
        ros.spin_until(lambda possible=possible: console.state()["deeds"] == [possible])
        assert console.state()["paused"] == (said == "paused")


def test_a_limit_is_shown_by_its_words(graph):
    ros, node, console = graph
    safety = node.create_publisher(SafetyStatus, "arm/safety", LATCHED)
    safety.publish(SafetyStatus(active_limits=["joint_states", "a new one"]))
    ros.spin_until(lambda: console.state()["limits"] == [LIMIT_WORDS["joint_states"], "a new one"])
