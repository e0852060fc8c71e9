# SPDX-License-Identifier: Apache-2.0
"""What mends and changes runs: ``serl repair``, ``serl checkpoint``; and ``serl doctor``: what the machine lacks."""

import sys
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import typer
from serl_config.text import printable
from serl_launch.errors import UsageError

from serl_cli.commands.options import complete_robot, complete_run

checkpoint = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)


@checkpoint.callback()
def checkpoint_overview() -> None:
    """What was learned, as files.

    Examples:
        ./serl checkpoint convert pick_cube-20260101-120000 --backend torch
    """


@checkpoint.command("convert")
def convert_checkpoint(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder.", autocompletion=complete_run)],
    backend: Annotated[Literal["jax", "torch"] | None, typer.Option(help="What computes from now on.")] = None,
    devices: Annotated[str, typer.Option(metavar="N|all", help="Devices that train together from now on.")] = "",
) -> None:
    """Let a run go on with another backend, or on another number of devices.

    Checkpoints and policies are the same files for all: the run keeps every one of them, and its settings name what
    computes. Nothing is trained.

    Examples:
        ./serl checkpoint convert pick_cube-20260101-120000 --backend torch
        ./serl checkpoint convert pick_cube-20260101-120000 --devices 1
    """
    from serl_cli.work.convert_run import convert
    from serl_launch import runs

    count: int | str = int(devices) if devices.isdecimal() else devices
    changes = {name: value for name, value in (("backend", backend), ("devices", count)) if value not in (None, "")}
    if not changes:
        raise typer.BadParameter("expected --backend or --devices, found neither")
    found = runs.find_run(runs.runs_root(), run)
    before = convert(found, changes)
    told = ", ".join(f"{name} {value} now, {before[name]} before" for name, value in changes.items())
    typer.echo(f"{found.name}: {told}; go on: ./serl train --resume {found.name}")


def repair(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder.", autocompletion=complete_run)],
    name: Annotated[str, typer.Option(help="Name of the new run. Default: RUN-repaired.")] = "",
) -> None:
    """Save what can be read of a run whose journal is damaged.

    A damaged journal is refused and never changed. This writes all transitions that can be read, and the newest
    checkpoint that was trained on nothing else, into a new run. The old one stays as it is. What could not be read is
    said, at the journal's very end, too, where a learner drops half a record that a crash has left.

    Examples:
        ./serl repair pick_cube-20260101-120000
    """
    from serl_cli.work.repair_run import repair as write
    from serl_launch import runs

    damaged = runs.find_run(runs.runs_root(), run)
    target = runs.create_run(runs.runs_root(), name or f"{damaged.name}-repaired")
    saved = write(damaged, target)
    goes_on = (
        "no checkpoint fits them: it is trained anew" if saved.step is None else f"checkpoint of step {saved.step}"
    )
    for gap in saved.unread:
        half = "; half a record that a crash has left, or damage: what was behind it is lost" if gap.last else ""
        typer.echo(f"not read: {printable(gap.file)}: {gap.size} bytes from byte {gap.offset} on{half}")
    if saved.left_out:
        steps = ", ".join(map(str, saved.left_out))
        typer.echo(f"left out: checkpoints of step {steps}: damaged, or trained on what is no longer there")
    if not (saved.unread or saved.left_out):
        typer.echo("nothing is damaged: this is a copy")
    typer.echo(f"{saved.transitions} transitions, {saved.behind} of them behind the damage; {goes_on}")
    typer.echo(f"go on: ./serl train --resume {target.name}")


def doctor(
    port: Annotated[str, typer.Option(metavar="PORT", help="Serial port of an arm of Feetech servos to look at.")] = "",
    calibration: Annotated[
        str, typer.Option(metavar="FILE", help="Calibration of that arm, as LeRobot writes it.")
    ] = "",
    robot: Annotated[
        str,
        typer.Option(
            metavar="ROBOT",
            help="What that arm is. Moves each joint by some degrees: make room, and hold the arm.",
            autocompletion=complete_robot,
        ),
    ] = "",
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE", help="Camera whose rate is measured, or a video; may be given several times."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was found as Markdown.")] = None,
) -> None:
    """Look at what may be in the way on this machine and at a bench, and say what to do about it.

    Python, ROS 2, packages, domain, memory, disk, graphics card; SpaceMice, cameras and serial ports, and whether you
    may read them. With --port and --calibration an arm is looked at: its servos, their faults, firmware, supply,
    temperature and calibration, how soon they answer, and that they let go. With --robot its joints are moved, and at a
    terminal you are asked how. Nothing else is changed. The exit status is 1 if something has to be done.

    Examples:
        ./serl doctor
        ./serl doctor --port /dev/ttyACM0 --calibration follower.json --robot so101 --report bench.md
        ./serl doctor --camera /dev/video0 --camera /dev/video2
    """
    from serl_cli.doctor.bench import Bench, bench_findings
    from serl_cli.doctor.finding import Finding, Level
    from serl_cli.doctor.machine import findings
    from serl_cli.doctor.report import write_report
    from serl_cli.names import check_name, robot_names

    if bool(port) != bool(calibration) or (robot and not port):
        raise UsageError("--port and --calibration belong together, and --robot to both")
    check_name("--robot ", robot, robot_names())
    bench = Bench(port=port, calibration=calibration, robot=robot, cameras=tuple(camera or ()))
    colors = {Level.GOOD: typer.colors.GREEN, Level.NOTE: typer.colors.YELLOW, Level.BAD: typer.colors.RED}
    found: list[Finding] = []
    for finding in chain(findings(), bench_findings(bench, _look)):
        found.append(finding)
        typer.echo(
            f"{typer.style(f'{finding.level.value:<4}', fg=colors[finding.level])}  "
            f"{finding.name}: {printable(finding.text)}"
        )
        if finding.advice:
            typer.echo(f"      {printable(finding.advice)}")
    if report is not None:
        write_report(report, found)
        typer.echo(f"report: {report}")
    if any(finding.level is Level.BAD for finding in found):
        raise typer.Exit(1)


def _look(joint: str, sentence: str) -> bool | None:
    """Asks the person at the terminal whether a joint moved as a sentence says; None: there is nobody."""
    if not sys.stdin.isatty():
        return None
    return typer.confirm(f"      {joint}: it {sentence}, is that right?", default=True)
