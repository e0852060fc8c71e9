# SPDX-License-Identifier: Apache-2.0
"""The program ``serl``: its commands, and how every error and every Ctrl-C ends."""

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, Any

import typer
from serl_config.interrupt import remember_interrupts, was_interrupted
from serl_config.text import printable
from serl_launch.errors import CommandError, Interrupted, UsageError
from serl_launch.terminal import outlive_terminal

from serl_cli import __version__
from serl_cli.commands import (
    bench,
    camera,
    console,
    encoder,
    evaluate,
    inspection,
    launch,
    record,
    repair,
    reward,
    teleop,
    train,
)
from serl_cli.commands.foreign import checkpoints, config, policy
from serl_cli.commands.help import documented
from serl_cli.commands.safety import security, stop
from serl_cli.secured import take_secure

PROGRAM = "serl"
_NO_CHOICE = re.compile(r"'(?P<value>[^']*)' is not one of (?P<choices>'.*')")
_LAUNCH_ARGUMENT = re.compile(r"(?P<name>[a-z][a-z0-9_]*):=(?P<value>.*)", re.DOTALL)
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

app = typer.Typer(
    name=PROGRAM,
    help="Robots that learn from demonstrations, their own trials and a person's corrections, on ROS 2.",
    epilog="Start here: [bold]./serl train[/bold]. It trains a simulated arm to pick up a cube and says where the "
    "results are.\nThe workspace itself: [bold]./serl setup[/bold], [bold]test[/bold], [bold]shell[/bold] and "
    "[bold]env[/bold] (with ROS sourced), [bold]clean[/bold].",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(panel: str, name: str, command: Callable[..., None], **options: Any) -> None:
    app.command(name, rich_help_panel=panel, **documented(command), **options)(command)


_add("Learning", "train", train.train)
_add("Learning", "eval", evaluate.evaluate)
_add("Learning", "record", record.record)
_add("Learning", "replay", record.replay)
_add("Learning", "sweep", bench.sweep)
_add("Learning", "repair", repair.repair)
_add("Learning", "convert", record.convert)
app.add_typer(
    repair.checkpoint, name="checkpoint", rich_help_panel="Learning", **documented(repair.checkpoint_overview)
)
app.add_typer(record.data, name="data", rich_help_panel="Learning", **documented(record.data_overview))
app.add_typer(reward.reward, name="reward", rich_help_panel="Learning", **documented(reward.reward_overview))
app.add_typer(bench.bench, name="bench", rich_help_panel="Learning", **documented(bench.bench_overview))
app.add_typer(bench.experiment, name="experiment", rich_help_panel="Learning", **documented(bench.experiment_overview))
app.add_typer(encoder.encoder, name="encoder", rich_help_panel="Learning", **documented(encoder.encoder_overview))
app.add_typer(checkpoints.policies, name="policy", rich_help_panel="Learning", **documented(policy.policy_overview))
app.add_typer(config.config, name="config", rich_help_panel="Learning", **documented(config.config_overview))
_add("The ROS graph", "launch", launch.launch, context_settings=launch.CONTEXT_SETTINGS)
_add("The ROS graph", "nodes", inspection.nodes)
_add("The ROS graph", "services", inspection.services)
_add("The ROS graph", "actions", inspection.actions)
app.add_typer(
    inspection.topics, name="topics", rich_help_panel="The ROS graph", **documented(inspection.topic_overview)
)
app.add_typer(teleop.teleop, name="teleop", rich_help_panel="The ROS graph", **documented(teleop.teleop_overview))
app.add_typer(camera.camera, name="camera", rich_help_panel="The ROS graph", **documented(camera.camera_overview))
_add("The ROS graph", "console", console.console)
_add("The ROS graph", "doctor", repair.doctor)
_add("Safety", "estop", stop.estop)
_add("Safety", "reset-estop", stop.reset_estop)
_add("Safety", "driver", stop.driver)
app.add_typer(security.security, name="security", rich_help_panel="Safety", **documented(security.security_overview))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[  # taken out by main(), wherever it stands; here only for --help
        bool, typer.Option("--debug", help="Show the trace of an error; may stand anywhere.")
    ] = False,
    network: Annotated[  # taken out by ./serl, wherever it stands; here only for --help
        bool,
        typer.Option("--network", help="Open ROS 2 to the network; --network=HOST;HOST where no multicast goes."),
    ] = False,
    secure: Annotated[  # taken out by main(), wherever it stands; here only for --help
        str, typer.Option("--secure", metavar="KEYSTORE", help="Nodes take their enclaves of this keystore of SROS 2.")
    ] = "",
) -> None:
    del version, debug, secure
    if network:
        raise UsageError("--network: expected ./serl in front, which sets ROS 2 up for it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status; every error is one line on stderr."""
    arguments, debug = _take_debug(list(sys.argv[1:] if arguments is None else arguments))
    arguments = _as_options(arguments)
    remember_interrupts()
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _leave)
    outlive_terminal()
    if os.environ.get("COLUMNS") == "0":  # a terminal without a size: everything would be cut to nothing
        del os.environ["COLUMNS"]
    try:
        arguments = take_secure(arguments, _say)
        _refuse_empty(arguments)
        status = app(arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        code = status if isinstance(status, int) else 0
        if code == INTERRUPTED:
            _say("interrupted")
        return code
    except BrokenPipeError:
        # The reader of our output has left, as `head` does; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Interrupted as interrupted:
        _say(str(interrupted))
        return INTERRUPTED
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where every error becomes a line
        if debug:
            traceback.print_exc()
        if was_interrupted() and not isinstance(error, CommandError):
            _say("interrupted")
            return INTERRUPTED
        return _explain(error)


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--debug" in arguments[:end]:
        os.environ["SERL_DEBUG"] = "1"  # the nodes show their traces, too
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return kept + arguments[end:], os.environ.get("SERL_DEBUG") == "1"


def _as_options(arguments: list[str]) -> list[str]:
    """Options of words as launch files take them: `seed:=1` is `--seed=1`, `viewer:=true` is `--viewer`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if arguments[:1] == ["launch"]:  # which takes them as they are
        return arguments
    return [_as_option(word) for word in arguments[:end]] + arguments[end:]


def _as_option(word: str) -> str:
    found = _LAUNCH_ARGUMENT.fullmatch(word)
    if found is None:
        return word
    name, value = found["name"].replace("_", "-"), found["value"]
    return {"true": f"--{name}", "false": f"--no-{name}"}.get(value, f"--{name}={value}")


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuses an option without a value: most often it is a variable of a script that nobody set."""
    if arguments[:1] == ["estop"]:  # which refuses nothing
        return
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument == "--":
            return
        if argument == "" and before != "--namespace":
            raise UsageError(f"{before or 'the command'}: expected a value, found an empty one")
        if argument.startswith("--") and argument.endswith("=") and argument != "--namespace=":
            raise UsageError(f"{argument[:-1]}: expected a value, found an empty one")


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _explain(error: Exception) -> int:
    """Prints an error as a person reads it and returns the exit status."""
    if isinstance(error, CommandError):
        _complain(str(error), error.details)
        return error.exit_code
    if isinstance(error, typer.TyperException):
        if not error.format_message():  # a command of commands without one of them: its help has been shown
            return error.exit_code
        _complain(_with_nearest(error.format_message()), hint=_help_hint(error))
        return error.exit_code
    if type(error).__module__.startswith("serl_"):  # raised by us where a bad value entered
        _complain(str(error))
    elif isinstance(error, OSError):
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    else:
        _complain(f"unexpected {type(error).__name__}: {error}", hint="this is a bug; --debug shows the trace")
    return 1


def _with_nearest(message: str) -> str:
    """A message about a choice, with the one that is nearest to what was given."""
    message = message.replace(": Value error, ", ": ")
    found = _NO_CHOICE.search(message)
    if found is None:
        return message
    from serl_config.schema import nearest  # the help needs none of what it brings

    return message.removesuffix(".") + nearest(found["value"], re.findall("'(.*?)'", found["choices"]))


def _help_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"see ./{context.command_path} --help" if context is not None else ""


def _say(message: str) -> None:
    typer.echo(f"\n{PROGRAM}: {message}" if sys.stderr.isatty() else f"{PROGRAM}: {message}", err=True)


def _complain(message: str, details: Sequence[str] = (), hint: str = "") -> None:
    line = printable(" ".join(message.split())) or "failed without saying why"
    if hint:
        line = f"{line.removesuffix('.')} ({hint})"
    label = f"{PROGRAM}: error:"
    if sys.stderr.isatty():
        label = typer.style(label, fg=typer.colors.RED, bold=True)
    typer.echo("\n".join([f"{label} {line}", *(f"  {printable(detail)}" for detail in details)]), err=True)
