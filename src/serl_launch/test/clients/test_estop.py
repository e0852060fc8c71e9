# SPDX-License-Identifier: Apache-2.0
"""`serl estop` finds every arm of this user, says of each whether it stopped, and waits for nothing.

Only arms in a namespace of the test are asked: somebody may be driving another one on this machine.
"""

import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serl_launch.clients import arms, estop_node
from serl_launch.errors import CommandError

from serl_launch import domain

STAND_IN = Path(__file__).with_name("stand_in_arm.py")


@pytest.fixture
def namespace() -> str:
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine answers late, which is not what these tests are about."""
    for name in ("_SEARCH", "_ANSWER", "_RELEASE"):
        monkeypatch.setattr(estop_node, name, 30.0)


@pytest.fixture
def arm(
    ros_domain: int, namespace: str, processes: Any, tmp_path: Path, wait_until: Callable[..., None]
) -> Callable[..., Any]:
    """Starts an arm in the test's domain; `known` ones look like arm controllers."""

    def start(
        *words: str,
        known: bool = True,
        where: str = namespace,
    ) -> Any:
        script = tmp_path / ("arm_controller" if known else "driver")
        shutil.copyfile(STAND_IN, script)
        script.chmod(0o755)
        process = processes.start(sys.executable, script, *words, "--ros-args", "-r", f"__ns:=/{where}")
        wait_until(lambda: "up" in process.output())
        return process

    return start


@pytest.mark.graph
@pytest.mark.parametrize(("known", "variable"), [(True, None), (True, "wrong"), (False, "wrong")])
def test_an_arm_is_stopped_and_released_whatever_the_environment_says(
    arm: Callable[..., Any],
    namespace: str,
    known: bool,
    variable: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wait_until: Callable[..., None],
) -> None:
    domain_id = int(os.environ[domain.VARIABLE])
    process = arm(known=known)
    monkeypatch.delenv(domain.VARIABLE)  # as in a terminal where nobody set it
    if variable is not None:
        monkeypatch.setenv(domain.VARIABLE, variable)
    estop_node.stop("", namespace)
    monkeypatch.delenv(domain.VARIABLE, raising=False)
    number = f", process {process.pid}" if known else ""
    assert f"stopped /{namespace}/arm (domain {domain_id}{number})" in capsys.readouterr().out
    expected = ["signal", "stop", "up"] if known else ["stop", "up"]
    wait_until(lambda: sorted(process.output().split()) == expected)  # a handler has its own time
    estop_node.reset("", namespace)
    assert f"released /{namespace}/arm" in capsys.readouterr().out
    assert process.output().split()[-1] == "release"


@pytest.mark.graph
def test_an_arm_without_keys_is_stopped_and_released_by_who_has_keys_that_are_none(
    arm: Callable[..., Any], namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process = arm(known=False)
    for name, value in (("ENABLE", "true"), ("STRATEGY", "Enforce"), ("KEYSTORE", str(tmp_path))):
        monkeypatch.setenv(f"ROS_SECURITY_{name}", value)
    estop_node.stop("", namespace)
    estop_node.reset("", namespace)
    assert process.output().split() == ["up", "stop", "release"]
    assert os.environ["ROS_SECURITY_ENABLE"] == "true"


@pytest.mark.graph
def test_an_arm_that_shows_up_late_on_a_busy_machine_is_stopped_and_released(
    arm: Callable[..., Any], namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    process = arm(known=False)
    discover = estop_node._discover
    clock = SimpleNamespace(asked=0, offset=0.0, monotonic=lambda: time.monotonic() + clock.offset)
    monkeypatch.setattr(estop_node, "time", clock)
    monkeypatch.setattr(estop_node, "_SEARCH", 200.0)

    def late(*arguments: Any) -> bool:
        clock.asked += 1
        if clock.asked == 3:  # longer passes than an arm may take to answer
            clock.offset += 60.0
        return clock.asked > 3 and discover(*arguments)

    monkeypatch.setattr(estop_node, "_discover", late)
    estop_node.stop("", namespace)
    clock.asked = 0
    estop_node.reset("", namespace)
    assert f"released /{namespace}/arm" in capsys.readouterr().out
    assert process.output().split() == ["up", "stop", "release"]


@pytest.mark.graph
def test_without_a_working_ros_arms_are_stopped_by_a_signal(
    arm: Callable[..., Any], namespace: str, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    process = arm()
    monkeypatch.setitem(sys.modules, "std_srvs.srv", None)  # importing it raises ImportError
    with pytest.raises(CommandError, match=rf"no arm can be asked.*by a signal: /{namespace}/arm .*{process.pid}"):
        estop_node.stop("", namespace)
    wait_until(lambda: "signal" in process.output())


@pytest.mark.graph
def test_of_two_processes_under_one_name_none_is_said_to_be_released(arm: Callable[..., Any], namespace: str) -> None:
    arm(), arm()
    with pytest.raises(CommandError, match="several processes are this arm"):
        estop_node.reset("", namespace)


@pytest.mark.graph
def test_an_arm_that_does_not_answer_is_named(
    arm: Callable[..., Any], namespace: str, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(estop_node, "_ANSWER", 0.6)
    suspended, deaf = arm(where=f"{namespace}/a"), arm("deaf", where=f"{namespace}/b")
    suspended.send(signal.SIGSTOP)
    try:
        with pytest.raises(CommandError, match=rf"NOT stopped: /{namespace}/a/arm .*suspended.*kill -CONT"):
            estop_node.stop("", f"{namespace}/a")
        with pytest.raises(CommandError, match=rf"NOT stopped: /{namespace}/b/arm .*{deaf.pid}.*no answer"):
            estop_node.stop("", f"{namespace}/b")
    finally:
        suspended.send(signal.SIGCONT)
    wait_until(lambda: "signal" in deaf.output())  # a local process obeys without ROS, but nobody confirmed it


@pytest.mark.graph
@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_the_arm_of_another_user_is_left_alone(
    arm: Callable[..., Any], namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = arm("foreign", known=False)
    with pytest.raises(CommandError, match="found no arm"):
        estop_node.stop("", namespace)
    assert "another user" in capsys.readouterr().out
    assert foreign.output().split() == ["up"]


def test_an_arm_is_known_by_its_program_its_domain_and_its_namespace(
    processes: Any, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    script = tmp_path / "arm_controller"
    script.write_text("import time\nprint('up', flush=True)\ntime.sleep(100)\n")
    arguments = ("--ros-args", "-r", "__node:=arm_controller", "-r", "__ns:=/left/front")
    process = processes.start(sys.executable, script, *arguments, env={domain.VARIABLE: "77"})
    reader = processes.start("tail", "-f", script)  # names it, and is none
    wait_until(lambda: "up" in process.output())
    found = {each.pid: each for each in arms.local_arms()}
    assert found[process.pid] == arms.LocalArm(process.pid, 77, "/left/front")
    assert reader.pid not in found
    assert not found[process.pid].halt()  # it has no handler: the signal would end it
    assert process.poll() is None


def test_sockets_tell_in_which_domains_a_user_takes_part(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

    def row(port: int, uid: int) -> str:
        return f"  1: 0100007F:{port:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000 {uid:5d} 0 1 2 0 0\n"

    table = tmp_path / "udp"
    own, other = os.getuid(), os.getuid() + 1
    rows = [(7400 + 250 * 3, own), (7412 + 250 * 4, own), (7413 + 250 * 4, own), (7400 + 250 * 5, other), (5353, own)]
    table.write_text(head + "".join(row(port, uid) for port, uid in [*rows, (7412 + 250 * 6, own)]))
    tables = [str(table), str(tmp_path / "missing")]
    assert domain.used_domains(tables=tables) == [3, 4]
    assert domain.used_domains(own=False, tables=tables) == [3, 4, 5]
