# SPDX-License-Identifier: Apache-2.0
"""``serl bench``: measures what the documentation promises."""

from pathlib import Path
from typing import Annotated

import typer

from serl_cli.commands.options import complete_benchmark


def bench(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to measure; without any, everything that --list marks.", autocompletion=complete_benchmark
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write a flat JSON map key → number.", metavar="FILE")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write everything that was found, with the machine.", metavar="FILE")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of what depends on chance.")] = 5,
    list_only: Annotated[bool, typer.Option("--list", help="List what can be measured, with the goals.")] = False,
) -> None:
    """Measure this machine and compare with the goals. The exit status is 1 when a goal is missed.

    Examples:
        ./serl bench --list
        ./serl bench sac_ref_updates_per_s
        ./serl bench --json numbers.json
    """
    from serl_bench import runner

    if list_only:
        runner.list_benchmarks(keys or [])
        return
    if not runner.run_benchmarks(keys or [], seeds, json_file, report):
        raise typer.Exit(1)
