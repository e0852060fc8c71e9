# SPDX-License-Identifier: Apache-2.0
"""What a running graph does beside the policy is told, whatever it calls itself."""

from types import SimpleNamespace
from typing import Any

import pytest
from serl_cli.app import main
from serl_launch.clients import audit_node
from serl_launch.clients.permissions_node import denied
from serl_security.policy import load_policy
from std_msgs.msg import Float64MultiArray

COMMANDS = "gripper_controller/commands"


@pytest.mark.graph
def test_what_the_policy_does_not_allow_is_a_line_for_each(ros: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ros.node("arm_controller").create_publisher(Float64MultiArray, COMMANDS, 1)
    ros.node("actor", namespace="arm_0")
    assert main(["security", "audit", "--namespace", "arm_0"]) == 0
    assert "2 nodes, which do what the policy allows" in capsys.readouterr().out

    ros.node("actor").create_publisher(Float64MultiArray, COMMANDS, 1)
    hidden = ros.node("arm_controller")  # of the same name as one that may write other things
    hidden.create_subscription(Float64MultiArray, "policy/weights", lambda _: None, 1)
    ros.node("_stranger")
    assert main(["security", "audit"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "/_stranger: expected a profile of an enclave, found none",
        f"/actor: publish /{COMMANDS}: not allowed by the enclave /actor",
        "/arm_0/actor: expected a profile of an enclave, found none",
        "/arm_controller: subscribe /policy/weights: not allowed by the enclave /arm_controller",
    ]


@pytest.mark.graph
def test_a_domain_without_nodes_is_not_called_good(ros_domain: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["security", "audit"]) == 1
    assert f"no node in domain {ros_domain}: nothing was looked at" in capsys.readouterr().err


@pytest.mark.graph
@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([["a"], []], []),  # it has just ended
        ([["no node of ROS: publish /a"], ["/x: publish /a"], ["/x: publish /a"]], ["/x: publish /a"]),  # just begun
        ([["a"], ["b"], ["c"], ["d"], ["e"]], ["e"]),
    ],
)
def test_what_is_found_is_looked_at_until_it_stays_the_same(
    looks: list[list[str]],
    told: list[str],
    ros: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ros.node("arm_controller")
    left = iter(looks)
    monkeypatch.setattr(audit_node, "denied", lambda *_: next(left))
    monkeypatch.setattr(audit_node, "_LOOK_AGAIN", 0.01)
    assert main(["security", "audit"]) == bool(told)
    assert not told or capsys.readouterr().out.splitlines() == told
    assert not list(left)


def test_what_is_of_no_node_is_told() -> None:
    """A program that speaks DDS alone, or hides its node."""

    def endpoints(topic: str, no_mangle: bool = False) -> list[Any]:
        assert no_mangle
        return [SimpleNamespace(node_name="_NODE_NAME_UNKNOWN_", node_namespace="_NODE_NAMESPACE_UNKNOWN_")]

    topics = ["rt/target_pose", "rq/arm/estopRequest", "rr/arm/estopReply", "anything", "ros_discovery_info"]
    node = SimpleNamespace(
        get_node_names_and_namespaces=list,
        get_fully_qualified_name=lambda: "/looks",
        get_topic_names_and_types=lambda no_demangle: [(topic, []) for topic in topics],
        get_publishers_info_by_topic=endpoints,
        get_subscriptions_info_by_topic=lambda topic, no_mangle: [],
    )
    assert denied(node, load_policy()) == [  # type: ignore[arg-type]
        "no node of ROS: publish /target_pose",
        "no node of ROS: publish anything",
        "no node of ROS: reply /arm/estop",
        "no node of ROS: request /arm/estop",
    ]
