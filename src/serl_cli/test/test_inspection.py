# SPDX-License-Identifier: Apache-2.0
"""`serl nodes`, `topics`, `services`, `actions` and `estop` against real nodes."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from geometry_msgs.msg import PointStamped
from rclpy.action import ActionServer
from serl_cli.app import main
from serl_ros.qos import LATCHED, RELIABLE_10, SENSOR
from std_msgs.msg import Float64
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.action import Train

pytestmark = pytest.mark.graph


ARM = f"test_{uuid.uuid4().hex}"  # a namespace that nobody has: no other arm on this machine is to be stopped


@pytest.fixture
def others(ros: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A node with one of everything, spun in a thread while the command looks at it."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    node = ros.node("other", namespace="arm")
    node.create_timer(0.02, lambda: fast.publish(Float64(data=1.5)))
    fast = node.create_publisher(Float64, "fast", SENSOR)
    latched = node.create_publisher(PointStamped, "latched", LATCHED)
    message = PointStamped()
    message.point.x = 0.25
    latched.publish(message)
    node.create_subscription(Float64, "wanted", lambda _: None, RELIABLE_10)
    server = ActionServer(node, Train, "train", lambda _: Train.Result())
    calls: list[tuple[str, bool]] = []

    def stop(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        calls.append(("estop", request.data))
        response.success = True
        return response

    def reset(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        calls.append(("reset", True))
        response.success, response.message = False, "the tool is outside of the workspace"
        return response

    node.create_service(SetBool, f"/{ARM}/arm/estop", stop)
    node.create_service(Trigger, f"/{ARM}/arm/reset_estop", reset)
    end = threading.Event()

    def spin() -> None:
        while not end.is_set():
            ros.executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield calls
    end.set()
    thread.join()
    server.destroy()


def test_nodes_are_listed_without_the_command_itself(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == 0
    assert capsys.readouterr().out.split() == ["/arm/other"]


def test_without_a_graph_that_is_said(ros_domain: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"serl: there is none in domain {ros_domain};")


def test_a_node_is_shown_with_what_it_offers(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "/arm/other"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "/arm/fast: std_msgs/msg/Float64",
        "/arm/wanted: std_msgs/msg/Float64",
        f"/{ARM}/arm/estop: std_srvs/srv/SetBool",
        "/arm/train: serl_interfaces/action/Train",
    ):
        assert line in shown


def test_topics_services_and_actions_are_listed(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics"]) == 0
    assert {"/arm/fast", "/arm/latched", "/arm/wanted"} <= set(capsys.readouterr().out.split())
    assert main(["services", "--types"]) == 0
    assert f"/{ARM}/arm/estop [std_srvs/srv/SetBool]" in capsys.readouterr().out
    assert main(["actions", "--types"]) == 0
    assert capsys.readouterr().out == "/arm/train [serl_interfaces/action/Train]\n"


def test_a_latched_message_is_printed(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "echo", "/arm/latched", "--once"]) == 0
    message, _ = yaml.safe_load_all(capsys.readouterr().out)
    assert message["point"]["x"] == 0.25


def test_one_field_of_several_messages_is_printed(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "echo", "arm/fast", "-n", "3", "--field", "data"]) == 0
    assert capsys.readouterr().out == "1.5\n---\n" * 3


def test_the_rate_of_a_best_effort_topic_is_measured(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "hz", "/arm/fast", "--seconds", "1"]) == 0
    rate = float(capsys.readouterr().out.partition("average rate: ")[2].split()[0])
    assert 20 < rate < 60


def test_quality_of_service_is_shown(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "info", "/arm/latched"]) == 0
    shown = capsys.readouterr().out
    assert "Type: geometry_msgs/msg/PointStamped" in shown
    assert "/arm/other: RELIABLE, TRANSIENT_LOCAL" in shown


def test_silence_is_one_readable_error(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "echo", "/arm/wanted", "--timeout", "0.5"]) == 1
    assert "no message on /arm/wanted within 0.5 s" in capsys.readouterr().err


def test_the_arm_is_stopped(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estop", "--namespace", ARM]) == 0
    assert others == [("estop", True)]
    assert "./serl reset-estop" in capsys.readouterr().out


def test_a_refused_release_says_why(others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reset-estop", "--namespace", ARM]) == 1
    assert others == [("reset", True)]
    assert "the tool is outside of the workspace" in capsys.readouterr().err


def test_an_arm_that_is_not_there_is_one_readable_error(
    ros_domain: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["estop", "--namespace", ARM]) == 1
    assert f"found no arm in namespace {ARM}" in capsys.readouterr().err
