# SPDX-License-Identifier: Apache-2.0
"""A message that a callback refuses is one line and a number, and the next one is heard."""

from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from serl_ros.diagnostics import Diagnostics
from serl_ros.incoming import subscribe
from serl_ros.qos import RELIABLE_10
from std_msgs.msg import String


class Refused(ValueError):
    pass


def test_a_refused_message_is_said_once_and_counted(ros: Any, capfd: pytest.CaptureFixture[str]) -> None:
    node, got, heard = ros.node(), [], []
    diagnostics = Diagnostics(node, period=0.05)

    def on_message(message: String) -> None:
        if not message.data:
            raise Refused("data: expected a text,\nfound none")
        got.append(message.data)

    subscribe(node, String, "text", on_message, RELIABLE_10, Refused)
    publisher = node.create_publisher(String, "text", RELIABLE_10)
    node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    ros.spin_until(lambda: publisher.get_subscription_count() == 1)
    for text in ("", "", "a", "", "b"):
        publisher.publish(String(data=text))
    ros.spin_until(lambda: got == ["a", "b"])
    assert capfd.readouterr().err.count("text: message refused: data: expected a text,\\nfound none") == 1

    def counted() -> bool:
        return any(value.value == "3" for array in heard for value in array.status[0].values)

    ros.spin_until(counted, what="the count")
    assert heard[-1].status[0].name.endswith(": messages")
    assert diagnostics is not None


def test_what_is_no_refusal_is_a_fault(ros: Any) -> None:
    node = ros.node()

    def on_message(_message: String) -> None:
        raise ValueError("a bug")

    subscription = subscribe(node, String, "text", on_message, RELIABLE_10, Refused)
    with pytest.raises(ValueError, match="a bug"):
        subscription.callback(String())
