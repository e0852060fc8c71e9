# SPDX-License-Identifier: Apache-2.0
"""What crosses the link, and how a message is told from its echo."""

import pytest
from serl_link.carried import Echo, LinkError, endpoint, wire_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learner.example:7447", ("learner.example", 7447)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "host", ":7447", "host:", "host:0", "host:65536", "host:-1", "host:١"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(LinkError, match="expected HOST:PORT"):
        endpoint(text)


def test_a_message_that_was_brought_is_told_once_and_others_never() -> None:
    echo = Echo(most=2)
    echo.brought(b"one")
    assert not echo.is_own(b"other")
    assert echo.is_own(b"one")
    assert not echo.is_own(b"one")  # the same bytes again are somebody's own
    for _ in range(2):
        echo.brought(b"equal")
    assert [echo.is_own(b"equal") for _ in range(3)] == [True, True, False]
    for data in (b"1", b"2", b"3"):
        echo.brought(data)
    assert [echo.is_own(data) for data in (b"1", b"2", b"3")] == [False, True, True]  # the newest two


def test_names_on_the_wire_have_the_version_and_the_namespace() -> None:
    assert wire_name("/left/metrics") == "serl/1/left/metrics"
    assert wire_name("/learner/policy", "state") == "serl/1/learner/policy/@state"
