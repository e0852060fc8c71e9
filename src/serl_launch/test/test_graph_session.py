# SPDX-License-Identifier: Apache-2.0
"""A command's graph: it comes up, breaks and ends in ways that a person understands, and nothing is left behind."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serl_launch.errors import CommandError, DomainTakenError, Interrupted
from serl_launch.graph_session import GraphSession, scratch_folder

from serl_launch import domain, graph_session

pytestmark = pytest.mark.graph

STAND_IN = Path(__file__).with_name("stand_in_actor.py")
WAIT = "import time; time.sleep(100)"


@pytest.fixture
def graph(ros_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GraphSession]:
    """Makes a session whose launch file holds the given lines."""
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))

    def make(*lines: str, **options: Any) -> GraphSession:
        (tmp_path / "launch").mkdir(exist_ok=True)
        (tmp_path / "launch" / "test.launch.xml").write_text(f"<launch>{''.join(lines)}</launch>")
        return GraphSession("test.launch.xml", {}, name="test", log_dir=tmp_path / "log", **options)

    return make


def _actor(role: str) -> str:
    return f'<executable name="actor" cmd="{sys.executable} {STAND_IN} {role}" respawn="true" respawn_delay="0.1"/>'


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., str]:
    """Makes the line of a launch file for a process that runs some Python."""

    def make(name: str, code: str, attributes: str = "") -> str:
        script = tmp_path / f"{name}.py"
        script.write_text(f"import sys, time\ndef say(*words): print(*words, file=sys.stderr, flush=True)\n{code}\n")
        return f'<executable name="{name}" cmd="{sys.executable} {script}" {attributes}/>'

    return make


def _run(graph: GraphSession, tick: Callable[[], None] = lambda: None) -> Any:
    from serl_interfaces.action import Train

    return graph.run_action(Train, "train", Train.Goal(), executable="actor", on_feedback=lambda _: None, tick=tick)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _poll_for(graph: GraphSession, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        graph.check()
        time.sleep(0.02)


def test_a_goal_brings_its_result_and_metrics(graph: Callable[..., GraphSession]) -> None:
    received: list[tuple[str, int, dict[str, float]]] = []
    with graph(_actor("goal")) as running:
        running.on_metrics(lambda *message: received.append(message))
        result = _run(running)
    assert result.success
    assert result.env_steps_to_goal == 5
    assert received == [("actor", 5, {"eval/success_rate": 0.96})]


def test_a_failed_goal_says_why(graph: Callable[..., GraphSession]) -> None:
    with graph(_actor("fail")) as running:
        result = _run(running)
    assert (result.termination_reason, result.message) == ("failed", "the gripper fell off")


@pytest.mark.parametrize(("role", "executions"), [("die-at-accept", 1), ("die-once", 2), ("die-at-end", 2)])
def test_a_goal_survives_the_death_of_its_node(
    graph: Callable[..., GraphSession], tmp_path: Path, role: str, executions: int
) -> None:
    reports: list[str] = []
    goals = tmp_path / "goals"
    with graph(_actor(f"{role} {goals}"), report=reports.append) as running:
        assert _run(running).success
    assert any("died and is started again" in line for line in reports)
    # Once by each process that had it, under one identifier.
    assert len(goals.read_text().split()) == executions
    assert len(set(goals.read_text().split())) == 1


def test_a_goal_that_is_refused_says_so(graph: Callable[..., GraphSession]) -> None:
    with graph(_actor("refuse")) as running, pytest.raises(CommandError, match="the action /train refused the goal"):
        _run(running)


def test_a_node_that_never_comes_up_is_named_with_its_last_words(
    graph: Callable[..., GraphSession], process: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(graph_session, "START_TIMEOUT", 1.5)
    log = tmp_path / "log" / "launch.log"
    with graph(process("actor", "say('looking for the camera'); time.sleep(100)")) as running:
        while "looking for the camera" not in (log.read_text() if log.exists() else ""):
            running.check()
        with pytest.raises(CommandError, match=r"waited 2 s for the action /train.*launch\.log") as raised:
            _run(running)
    assert "looking for the camera" in raised.value.details


@pytest.mark.parametrize(
    ("status", "how_often"), [(2, r"ended by itself \(exit code 2\)"), (1, r"ended by itself 4 times \(exit code 1\)")]
)
def test_a_process_that_dies_again_and_again_ends_the_wait(
    graph: Callable[..., GraphSession], process: Callable[..., str], status: int, how_often: str
) -> None:
    line = process("arm", f"say('no such robot'); sys.exit({status})", 'respawn="true" respawn_delay="0.05"')
    with graph(line) as running, pytest.raises(CommandError, match=f"arm-1 {how_often}") as raised:
        _poll_for(running)
    assert "no such robot" in raised.value.details


@pytest.mark.parametrize("label", ["fatal: ", "[FATAL] [17.25] [arm]: "])
def test_the_reason_of_a_node_that_gives_up_is_what_the_person_reads_first(
    graph: Callable[..., GraphSession], process: Callable[..., str], label: str
) -> None:
    line = process("arm", f"say('{label}robot.yaml: no such robot'); say('afterwards'); sys.exit(2)")
    with graph(line) as running, pytest.raises(CommandError, match=r"^robot\.yaml: no such robot - arm-1 ended"):
        _poll_for(running)


def test_what_a_node_waits_for_is_told_now_and_then(
    graph: Callable[..., GraphSession], process: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(graph_session, "time", clock)
    wait = "[WARN] [17.25] [actor]: waiting for a policy"
    # Each line of the input is answered by what a node says in a second, and by the end at last.
    script = tmp_path / "turns"
    os.mkfifo(script)
    code = (
        f"for turn in open({str(script)!r}):\n  for _ in range(3): say({wait!r})\n  say('[WARN] [1.2] [actor]:', turn)"
    )
    told: list[str] = []
    with graph(process("actor", f"{code}\nsys.exit(2)"), report=told.append) as running:
        with script.open("w") as turns:
            for turn, now in enumerate([0.0, 0.9, 1.1, 1.2, 2.0, 2.2]):
                clock.now = now * graph_session.NOTICE_PERIOD
                print(turn, file=turns, flush=True)
                log = tmp_path / "log" / "launch.log"
                while f"[actor]: {turn}" not in (log.read_text() if log.exists() else ""):
                    running.check()
        with pytest.raises(CommandError):
            _poll_for(running)
    assert told == [f"[actor-1] {wait}"] * 2, "at 1.1 periods, and no sooner than a period later"


def test_what_a_node_could_not_do_at_the_end_is_kept(
    graph: Callable[..., GraphSession], process: Callable[..., str]
) -> None:
    code = "import signal\ndef end(*_): say('[FATAL] [1.2] [learner]: not saved'); sys.exit(1)\n"
    ready = f"{code}signal.signal(signal.SIGINT, end); say('[ERROR] ready'); {WAIT}"
    told: list[str] = []
    with graph(process("learner", ready), report=told.append) as running:
        while not told:
            running.check()
    assert running.unfinished == ["not saved"]


def test_a_graph_that_shuts_down_ends_the_wait(graph: Callable[..., GraphSession], process: Callable[..., str]) -> None:
    with (
        graph(process("bridge", "", 'on_exit="shutdown"')) as running,
        pytest.raises(CommandError, match=r"the graph ended: .*bridge-1.* has finished"),
    ):
        _poll_for(running)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, CommandError("x")])
def test_nothing_is_left_whatever_happens(
    graph: Callable[..., GraphSession], process: Callable[..., str], error: Any
) -> None:
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind), graph(process("a", WAIT), process("b", WAIT)) as running:
        pids = list(running._runner.running.values())
        assert len(pids) == 2
        assert [each.name for each in domain.running_graphs() if each.pid == os.getpid()] == ["test"]
        raise error
    assert not any(_is_alive(pid) for pid in pids)
    assert not [each for each in domain.running_graphs() if each.pid == os.getpid()]


def test_a_wrong_launch_file_starts_nothing_and_frees_the_domain(graph: Callable[..., GraphSession]) -> None:
    with pytest.raises(Exception, match="nonsense"), graph("<nonsense/>"):
        pass
    assert not [each for each in domain.running_graphs() if each.pid == os.getpid()]


def test_what_nodes_log_as_errors_is_reported(graph: Callable[..., GraphSession], process: Callable[..., str]) -> None:
    reports: list[str] = []
    line = process("arm", "say('[INFO] warm'); say('[ERROR] too hot'); time.sleep(100)")
    with graph(line, report=reports.append) as running:
        end = time.monotonic() + 60
        while not reports and time.monotonic() < end:
            running.check()
            time.sleep(0.02)
    assert reports == ["[arm-1] [ERROR] too hot"]


def test_two_graphs_do_not_share_the_domain_of_the_environment(
    graph: Callable[..., GraphSession], process: Callable[..., str]
) -> None:
    with graph(process("a", WAIT)), pytest.raises(CommandError, match=r"the graph 'test' \(process \d+\) runs"):
        graph(process("b", WAIT)).__enter__()


@pytest.mark.parametrize(
    ("error", "stays"),
    [(None, False), (Interrupted("Ctrl-C"), False), (DomainTakenError("taken"), False), (CommandError("broke"), True)],
)
def test_a_scratch_folder_stays_where_its_logs_explain_an_error(error: Exception | None, stays: bool) -> None:
    folders = []

    def use() -> None:
        with scratch_folder("serl_test_") as folder:
            folders.append(folder)
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(type(error)):
            use()
    assert folders[0].exists() == stays
    if stays:
        folders[0].rmdir()
