# SPDX-License-Identifier: Apache-2.0
"""Real processes: what they print, how they end, and that none stays behind."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serl_launch.language.errors import LaunchError
from serl_launch.processes.events import Event, Message, OutputLine, ProcessExited, shown
from serl_launch.processes.runner import LaunchRunner

WriteLaunch = Callable[..., Path]
Shell = Callable[..., str]
WaitUntil = Callable[..., None]

PATIENT = 'sigterm_timeout="1000" sigkill_timeout="1000"'
STUBBORN = "trap 'echo got INT' INT; trap 'echo got TERM' TERM; echo ready; while :; do sleep 0.02; done"
POLITE = "trap 'echo bye; exit 0' INT; echo ready; while :; do sleep 0.02; done"


class Graph:
    """A runner whose events are kept."""

    def __init__(self, file: Path, log_dir: Path, **arguments: str) -> None:
        self.events: list[Event] = []
        self.runner = LaunchRunner(file, arguments, log_dir=log_dir, sink=self.events.append)

    def until(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.events
            self.runner.poll(0.05)

    def run(self) -> int:
        self.runner.start()
        assert self.runner.wait(60.0), self.events
        return self.runner.exit_status

    def lines(self, process: str = "sh-1") -> list[str]:
        lines = (event for event in self.events if isinstance(event, OutputLine) and event.stream == "stdout")
        return [line.text for line in lines if line.process == process]

    def messages(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    def exits(self) -> list[ProcessExited]:
        return [event for event in self.events if isinstance(event, ProcessExited)]


@pytest.fixture
def graph(write_launch: WriteLaunch, tmp_path: Path) -> Iterator[Callable[..., Graph]]:
    """`graph(content, name=value, ...)`; what it started is ended with the test."""
    made: list[Graph] = []

    def make(content: str, **arguments: str) -> Graph:
        made.append(Graph(write_launch(content), tmp_path / "log", **arguments))
        return made[-1]

    yield make
    for each in made:
        each.runner.close()


# --- output --------------------------------------------------------------------------------------


def test_lines_carry_the_name_of_their_process(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("echo one; echo two >&2; printf 'no end'", 'name="talker" output="screen"'))
    assert each.run() == 0
    assert {str(event) for event in each.events if isinstance(event, OutputLine)} == {
        "[talker-1] one",
        "[talker-1] two",
        "[talker-1] no end",
    }


@pytest.mark.parametrize(
    ("output", "seen"),
    [("log", ["err"]), ("screen", ["out", "err"]), ("both", ["out", "err"]), ("own_log", []), ("full", ["out", "err"])],
)
def test_what_is_seen_and_what_is_logged(
    shell: Shell, graph: Callable[..., Graph], tmp_path: Path, output: str, seen: list[str]
) -> None:
    each = graph(shell("echo out; echo err >&2", f'output="{output}"'))
    each.run()
    shown_lines = [event.text for event in each.events if isinstance(event, OutputLine) and shown(event)]
    assert sorted(shown_lines) == sorted(seen)
    log = (tmp_path / "log/launch.log").read_text()
    assert "[sh-1] out\n" in log and "[sh-1] err\n" in log and "process started with pid" in log
    own = {path.name: path.read_text() for path in (tmp_path / "log").glob("sh-1*.log")}
    if output in ("own_log", "full"):
        assert own["sh-1-stdout.log"] == "out\n" and own["sh-1-stderr.log"] == "err\n"
        assert sorted(own["sh-1.log"].splitlines()) == ["[sh-1] err", "[sh-1] out"]
    else:
        assert not own


def test_much_output_and_no_utf8(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell(r"i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf '\377\n'"))
    each.run()
    assert each.lines() == [*(f"line {number}" for number in range(3000)), "\N{REPLACEMENT CHARACTER}"]


def test_a_line_that_never_ends_is_cut(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("head -c 300000 /dev/zero | tr '\\000' x"))
    each.run()
    assert "".join(each.lines()) == "x" * 300000
    assert max(map(len, each.lines())) < 200000


def test_parameter_files_are_there_when_the_node_starts(
    write_launch: WriteLaunch, environment: dict[str, str], tmp_path: Path
) -> None:
    file = write_launch(
        '<node pkg="robot" exec="driver" name="n" namespace="/" output="screen"><param name="a" value="1"/></node>'
    )
    events: list[Event] = []
    with LaunchRunner(file, {}, log_dir=tmp_path / "log", sink=events.append, environment=environment) as runner:
        runner.start()
        runner.wait()
    parameters = tmp_path / "log/params/driver-1-0.yaml"
    assert parameters.read_text() == "/n:\n  ros__parameters:\n    a: 1\n"
    command = f"--ros-args -r __node:=n -r __ns:=/ --params-file {parameters}"
    assert [event.text for event in events if isinstance(event, OutputLine)] == [command]


# --- ends and respawns ---------------------------------------------------------------------------


def test_a_launch_ends_when_everything_in_it_has(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("exit 0") + '<timer period="0.1"><log message="late"/></timer>')
    assert each.run() == 0
    assert each.messages()[-1] == "late"
    assert each.runner.poll() is False


def test_a_launch_of_nothing_ends_at_once(graph: Callable[..., Graph]) -> None:
    assert graph("<log message='only this'/>").run() == 0


def test_a_process_that_fails_makes_the_launch_fail_and_is_named(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(
        shell("exit 3", 'name="bad"') + shell("sleep 0.1", 'name="good"') + shell("kill -9 $$", 'name="killed"')
    )
    assert each.run() == 1
    assert sorted(each.runner.failures) == ["bad-1: exit code 3", "killed-3: ended by SIGKILL"]
    assert {event.process: event.expected for event in each.exits()} == {
        "bad-1": False,
        "good-2": True,
        "killed-3": False,
    }


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 4", 1)])
def test_on_exit_shutdown_ends_the_others(
    shell: Shell, graph: Callable[..., Graph], tmp_path: Path, script: str, status: int
) -> None:
    ready = tmp_path / "ready"
    polite = POLITE.replace("echo ready", f"echo ready; : > {ready}")
    each = graph(shell(polite) + shell(f"until [ -e {ready} ]; do sleep 0.02; done; {script}", 'on_exit="shutdown"'))
    assert each.run() == status
    assert each.lines() == ["ready", "bye"]
    assert any("process[sh-2] was required" in message for message in each.messages())
    assert each.runner.failures == (("sh-2: exit code 4",) if status else ())


def test_a_failure_comes_with_the_last_words(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("echo trace >&2; echo 'NoSuchTask: pick' >&2; echo >&2; echo out; exit 3"))
    assert each.run() == 1
    assert each.runner.failures == ("sh-1: exit code 3; it last said: NoSuchTask: pick",)


def test_respawn_with_delay_and_a_limit(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("echo up; exit 1", 'respawn="true" respawn_delay="0.2" respawn_max_retries="2"'))
    start = time.monotonic()
    assert each.run() == 1
    assert each.lines() == ["up"] * 3
    assert time.monotonic() - start >= 0.4
    assert [event.respawns for event in each.exits()] == [True, True, False]
    assert each.runner.failures == ("sh-1: exit code 1",)


def test_a_killed_process_comes_back_until_the_shutdown(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell(POLITE, 'respawn="true"'))
    each.runner.start()
    for starts in (1, 2, 3):
        each.until(lambda starts=starts: each.lines().count("ready") == starts)
        if starts < 3:
            os.kill(each.runner.running["sh-1"], signal.SIGKILL)
    each.runner.shutdown()
    assert each.runner.wait(30.0)
    assert each.lines() == ["ready", "ready", "ready", "bye"]
    assert each.runner.exit_status == 0


def test_a_process_that_cannot_use_its_parameters_is_not_respawned(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("exit 2", "respawn='true'"))
    assert each.run() == 1
    assert each.runner.failures == ("sh-1: exit code 2",)
    assert [event.respawns for event in each.exits()] == [False]


def test_a_shutdown_cancels_a_respawn_that_waits(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("exit 1", 'respawn="true" respawn_delay="100"') + shell(POLITE))
    each.runner.start()
    each.until(lambda: bool(each.exits()) and each.lines("sh-2") == ["ready"])
    each.runner.shutdown()
    assert each.runner.wait(30.0)


def test_a_program_that_cannot_be_started(shell: Shell, graph: Callable[..., Graph], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    each = graph(f'<executable cmd="{program}" on_exit="shutdown"/>' + shell("sleep 100"))
    assert each.run() == 1
    assert each.runner.failures == ("program-1: could not be started",)
    assert not each.exits(), "nothing is started after the shutdown began"


def test_shutdown_action_ends_what_was_started_before(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("sleep 100") + "<timer period='0.2'><shutdown reason='time is up'/></timer>")
    assert each.run() == 0
    assert "shutting down: time is up" in each.messages()


# --- stopping ------------------------------------------------------------------------------------


def test_sigint_then_sigterm_then_sigkill(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell(STUBBORN, 'sigterm_timeout="1.0" sigkill_timeout="1.0"'))
    each.runner.start()
    each.until(lambda: each.lines() == ["ready"])
    start = time.monotonic()
    each.runner.shutdown()
    assert each.runner.wait(30.0)
    assert 2.0 <= time.monotonic() - start < 9.0, "10 s would be the waits of who asks for none"
    assert each.lines() == ["ready", "got INT", "got TERM"]
    (exit_event,) = each.exits()
    assert (exit_event.code, exit_event.expected) == (-signal.SIGKILL, True)
    assert each.runner.exit_status == 0


def test_hasten_does_not_wait_for_the_timeouts(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell(STUBBORN, PATIENT))
    each.runner.start()
    each.until(lambda: each.lines() == ["ready"])
    each.runner.shutdown()
    each.until(lambda: "got INT" in each.lines())
    each.runner.hasten()
    each.until(lambda: "got TERM" in each.lines())
    each.runner.hasten()
    assert each.runner.wait(30.0)


def test_a_signal_reaches_what_a_shell_has_started(shell: Shell, graph: Callable[..., Graph]) -> None:
    python = f"{sys.executable} -c 'import time; print(1, flush=True); time.sleep(100)'"
    each = graph(shell(f"{python}; echo after", PATIENT))
    each.runner.start()
    each.until(lambda: each.lines() == ["1"])
    each.runner.shutdown()
    assert each.runner.wait(30.0), "a shell waits for its child, so SIGINT for it alone would have to be escalated"


def test_what_a_process_leaves_behind_is_killed(
    wait_until: WaitUntil, is_alive: Callable[[int], bool], shell: Shell, graph: Callable[..., Graph]
) -> None:
    each = graph(shell("sleep 100 & echo $!; setsid sleep 100 & echo $!"))
    each.run()
    left_behind = [int(line) for line in each.lines()]
    assert len(left_behind) == 2
    wait_until(lambda: not any(map(is_alive, left_behind)))
    assert sum("left behind: " in message for message in each.messages()) == 2


def test_it_can_be_driven_from_another_thread(
    wait_until: WaitUntil, is_alive: Callable[[int], bool], shell: Shell, graph: Callable[..., Graph]
) -> None:
    each = graph(shell(POLITE))
    driver = threading.Thread(target=each.run)
    driver.start()
    wait_until(lambda: each.lines() == ["ready"])
    each.runner.shutdown("the other thread asked")
    driver.join(30.0)
    assert not driver.is_alive()
    assert "shutting down: the other thread asked" in each.messages()


def test_requests_after_the_end_do_nothing(shell: Shell, graph: Callable[..., Graph]) -> None:
    each = graph(shell("exit 3") + shell("exit 0"))
    assert each.run() == 1
    events, failures = list(each.events), each.runner.failures
    each.runner.shutdown()
    each.runner.hasten()
    each.runner.close()
    assert not each.runner.poll()
    assert each.events == events, "nothing is sent, started or said"
    assert (each.runner.exit_status, each.runner.failures) == (1, failures)
    assert failures == ("sh-1: exit code 3",)


def test_an_error_of_the_sink_comes_out_and_leaves_nothing_running(
    wait_until: WaitUntil, is_alive: Callable[[int], bool], shell: Shell, write_launch: WriteLaunch, tmp_path: Path
) -> None:
    pids: list[int] = []

    def sink(event: Event) -> None:
        if isinstance(event, OutputLine):
            pids.append(int(event.text))
            raise ValueError("full")

    file = write_launch(shell("echo $$; exec sleep 100"))
    with (
        pytest.raises(ValueError, match="full"),
        LaunchRunner(file, {}, log_dir=tmp_path / "log", sink=sink) as runner,
    ):
        runner.start()
        runner.wait()
    assert pids
    wait_until(lambda: not is_alive(pids[0]))


def test_logs_that_cannot_be_written_are_said_before_anything_starts(
    shell: Shell, graph: Callable[..., Graph], tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("in the way")
    each = graph(shell("exit 0"))
    with pytest.raises(LaunchError, match=r"cannot write logs to .*log: "):
        each.runner.start()
    assert not each.events


def test_a_full_disk_ends_the_logs_and_not_the_launch(
    shell: Shell, graph: Callable[..., Graph], tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log/launch.log").symlink_to("/dev/full")
    each = graph(shell("echo still here"))
    assert each.run() == 0
    assert each.lines() == ["still here"]
    assert sum("no more logs are kept: No space left" in message for message in each.messages()) == 1
