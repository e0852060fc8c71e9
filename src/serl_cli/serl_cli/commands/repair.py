# SPDX-License-Identifier: Apache-2.0
"""``serl repair``: what can be read of a damaged run becomes a new one. ``serl doctor``: what the machine lacks."""

from typing import Annotated

import typer

from serl_cli.commands.options import complete_run


def repair(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder.", autocompletion=complete_run)],
    name: Annotated[str, typer.Option(help="Name of the new run. Default: RUN-repaired.")] = "",
) -> None:
    """Save what can be read of a run whose journal is damaged.

    A damaged journal is refused and never changed. This writes all transitions that can be read, and the newest
    checkpoint that was trained on nothing else, into a new run. The old one stays as it is.

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
    typer.echo(f"{saved.transitions} transitions, {saved.behind} of them behind the damage; {goes_on}")
    typer.echo(f"go on: ./serl train --resume {target.name}")


def doctor() -> None:
    """Look at what may be in the way on this machine, and say what to do about it.

    Python, ROS 2, packages, domain, memory, disk, graphics card; SpaceMice, cameras and serial ports, and whether you
    may read them. Nothing is changed. The exit status is 1 if something has to be done.

    Examples:
        ./serl doctor
    """
    from serl_cli.work.doctor import Level, findings

    colors = {Level.GOOD: typer.colors.GREEN, Level.NOTE: typer.colors.YELLOW, Level.BAD: typer.colors.RED}
    is_well = True
    for finding in findings():
        is_well &= finding.level is not Level.BAD
        typer.echo(
            f"{typer.style(f'{finding.level.value:<4}', fg=colors[finding.level])}  {finding.name}: {finding.text}"
        )
        if finding.advice:
            typer.echo(f"      {finding.advice}")
    if not is_well:
        raise typer.Exit(1)
