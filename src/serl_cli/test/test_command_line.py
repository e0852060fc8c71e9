# SPDX-License-Identifier: Apache-2.0
"""The program `serl` as a person meets it: help, errors, exit statuses. No graph is started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from serl_cli.app import main

from serl_cli import __version__
from serl_cli import app as program

COMMANDS = [
    ["train"], ["eval"], ["record"], ["bench"], ["launch"], ["nodes"], ["topics"], ["topics", "list"], ["topics", "hz"],
    ["topics", "echo"], ["topics", "info"], ["services"], ["actions"], ["estop"], ["reset-estop"],
    ["encoder"], ["encoder", "train"], ["encoder", "convert"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("SERL_DEBUG", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers


def _python(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "serl_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: serl" in shown
    if len(command) == 1:
        assert f"./serl {command[0]}" in shown


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command[0] in shown for command in COMMANDS)


@pytest.mark.parametrize("command", ["reward", "encoder", "camera"])
def test_a_command_without_its_command_shows_its_help_alone(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 2
    captured = capsys.readouterr()
    assert f"./serl {command} " in captured.out
    assert captured.err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"serl {__version__}\n"


def test_a_terminal_without_a_size_shows_something(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    main(["--help"])
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "--sed", "1"], "No such option: --sed"),
        (["train", "--demos", "many"], "--demos"),
        (["train", "--goal", "1.5"], "--goal"),
        (["train", "--confirm", "101"], "--confirm"),
        (["train", "--max-steps", "0"], "--max-steps"),
        (["train", "no_such_task"], "no task 'no_such_task'"),
        (["train", "pick_cube", "--person", "nobody"], "no person 'nobody': there are fresh, tired"),
        (["train", "pick_cube", "--person", "tired", "--teleop", "none"], "nobody leads: leave out one of the two"),
        (["train", "--person", "fresh", "--teleop", "joy", "--rtf", "1"], "with --teleop joy a person of flesh"),
        (["train", "--learning", "nonsense"], "no learning configuration 'nonsense'"),
        (["train", "--set", "utd_ratio"], "expected KEY=VALUE"),
        (["train", "pick_cube", "person:=nobody"], "no person 'nobody'"),
        (["train", "pick_cube", "person:=tired", "teleop:=none"], "nobody leads: leave out one of the two"),
        (["train", "pick_cube", "max_steps:=0"], "--max-steps"),
        (["train", "pick_cube", "sed:=1"], "No such option: --sed"),
        (["train", "pick_cube", "name:="], "--name: expected a value, found an empty one"),
        (["train", "pick_cube", "interventions:=true", "sed:=1"], "No such option: --sed"),
        (["train", "--resume", ""], "--resume: expected a value, found an empty one"),
        (["train", "--name="], "--name: expected a value, found an empty one"),
        (["record", "--out", ""], "--out: expected a value, found an empty one"),
        (["eval", ""], "eval: expected a value, found an empty one"),
        (["reset-estop", "--graph", ""], "--graph: expected a value, found an empty one"),
        (["train", "--name", "../x"], "run name '../x'"),
        (["train", "--name", "x", "--resume", "y"], "--name and --resume"),
        (["eval"], "Missing argument"),
        (["bench", "nonsense"], "no benchmark nonsense"),
        (["bench", "suite", "--tasks", "nonsense"], "no task nonsense"),
        (["bench", "suite", "--settings", "nonsense"], "no setting 'nonsense'"),
        (["bench", "suite", "--report-only", "--tasks", "pick_cube", "--redo"], "leave out --tasks, --redo"),
        (["bench", "metaworld", "--report-only", "--seeds", "2"], "leave out --seeds"),
        (
            ["experiment", "interventions", "--demos", "1,many"],
            "--demos: expected whole numbers, as 0,1,5,20, found 'many'",
        ),
        (["experiment", "interventions", "--person", "nobody"], "no person 'nobody'"),
        (["experiment", "interventions", "--report-only", "--person", "tired"], "leave out --person"),
        (["topics", "hz"], "Missing argument"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("serl: error: ")
    assert message in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--resume", "nothing"], "no run 'nothing'"),
        (["eval", "nothing"], "no run 'nothing'"),
        (["nodes", "--graph", "nothing"], "no graph 'nothing' runs"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(28, "No space left on device", "/full/x"), 1, "/full/x: No space left on device"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines (this is a bug; --debug shows the trace)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_end_is_one_line(
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(program, "app", fail)
    assert main(["bench"]) == status
    captured = capsys.readouterr().err.strip()
    assert message in captured
    assert len(captured.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--debug", "train", "--resume", "x"], ["train", "--resume", "x", "--debug"]])
def test_debug_shows_the_trace_wherever_it_stands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_needs_nothing_heavy() -> None:
    heavy = "{'rclpy', 'numpy', 'jax', 'mujoco', 'matplotlib', 'pydantic', 'gymnasium'}"
    code = (
        "import sys; from serl_cli.app import main; main(['--help']);"
        f"sys.exit(str(sorted({heavy} & sys.modules.keys())) if {heavy} & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_tasks_and_runs_are_completed(tmp_path: Path) -> None:
    def complete(line: str) -> str:
        words = line.split(" ")
        variables = {"_SERL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return _python(env={**os.environ, **variables}).stdout

    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").write_text("{}")
    assert complete("serl trai").split() == ["train"]
    assert complete("serl eval m").split() == ["mine"]
    assert complete("serl bench pick_state_s").split() == ["pick_state_steps"]
    assert complete("serl train open_drawer_v").split() == ["open_drawer_vision"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "serl_cli", "bench", "--list"], stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert done.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_waiting_command_with_its_status(number: signal.Signals) -> None:
    code = (
        "import sys, time, serl_cli.app as program\n"
        "def wait(*_, **__): print('up', flush=True); time.sleep(60)\n"
        "program.app = wait\n"
        "sys.exit(program.main(['bench']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert b"Traceback" not in process.stderr.read()
