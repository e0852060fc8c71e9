# SPDX-License-Identifier: Apache-2.0
"""What a link of two machines needs is looked at before a graph starts: keys, side, port, no open network."""

import socket
from pathlib import Path

import pytest
from serl_launch.errors import UsageError
from serl_launch.needs import refuse_missing
from serl_launch.ports import refuse_taken


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Arguments of the learner's side, with keys of the run."""
    pytest.importorskip("cryptography", reason="./serl setup link")
    pytest.importorskip("zenoh", reason="./serl setup link")
    from serl_link.keys import make_keys

    monkeypatch.delenv("SERL_NETWORK", raising=False)
    make_keys(tmp_path / "keys", ["127.0.0.1"])
    return {"side": "learner", "link": "127.0.0.1:7447", "link_keys": str(tmp_path / "keys/learner")}


def refusal(arguments: dict[str, str]) -> str:
    with pytest.raises(UsageError) as found:
        refuse_missing(arguments)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_a_link_with_keys_of_its_side_is_taken(given: dict[str, str]) -> None:
    refuse_missing(given)
    refuse_missing(given | {"side": "robot", "link_keys": given["link_keys"].replace("learner", "robot")})
    refuse_missing({"link": "", "side": "all"})


def test_a_link_is_refused_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERL_NETWORK", raising=False)
    monkeypatch.setattr("serl_config.optional.is_installed", lambda name: name != "zenoh")
    assert "link:= needs zenoh, not installed: ./serl setup link" in refusal({"link": "a:1", "side": "robot"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"side": "all"}, "expected side:=robot or side:=learner, found side:=all"),
        ({"side": "robot"}, "expected keys of the side robot, found those of learner"),
        ({"link": "learner.example"}, "expected HOST:PORT"),
        ({"link": "10.0.0.1:7447"}, "names 127.0.0.1, not 10.0.0.1"),
        ({"link_keys": "nowhere"}, "nowhere/authority.crt: cannot be read: No such file or directory; ./serl security"),
    ],
)
def test_what_a_link_cannot_use_is_refused(given: dict[str, str], changed: dict[str, str], said: str) -> None:
    assert said in refusal(given | changed)


def test_a_link_beside_an_open_network_is_refused(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERL_NETWORK", "on")
    assert "an open network" in refusal(given)


def test_a_taken_port_of_the_learners_side_is_refused(given: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        link = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"link:={link}: cannot listen on 127.0.0.1 port"):
            refuse_taken(given | {"link": link})
        refuse_taken(given | {"link": link, "side": "robot"})  # which listens nowhere
