# SPDX-License-Identifier: Apache-2.0
"""Runs benchmarks one after the other and reports them: a table, a flat JSON file, a full report."""

import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from serl_launch.errors import CommandError
from serl_launch.runs import write_atomically

from serl_bench.benchmark import Bench, Benchmark, Measurement
from serl_bench.registry import BENCHMARKS, select
from serl_launch import system

BUSY = 0.5


def list_benchmarks(keys: Sequence[str], benchmarks: Iterable[Benchmark] = BENCHMARKS) -> None:
    """Prints what can be measured; those that run without being asked for are marked."""
    benchmarks = list(benchmarks)
    shown = select(keys, benchmarks) if keys else benchmarks
    table = Table("", Column("key", no_wrap=True), "goal", "what", box=None, padding=(0, 2, 0, 0))
    for each in shown:
        mark = "*" if each.by_default else ""
        table.add_row(mark, each.key, f"{each.goal_text} {each.unit}", each.what)
    console = Console()
    console.print(table)
    console.print("* runs without being asked for by key", style="dim")


def run_benchmarks(
    keys: Sequence[str],
    seeds: int,
    json_file: Path | None,
    report: Path | None,
    benchmarks: Iterable[Benchmark] = BENCHMARKS,
) -> bool:
    """Measures, prints a row each, and writes the files after each row.

    Args:
        keys: what to measure; empty: everything that runs by default.
        seeds: number of runs of what depends on chance; they are 0, 1, 2 ...
        json_file: file for the map key to number.
        report: file for everything that was found.
        benchmarks: what there is to choose from.

    Returns:
        Whether every goal was reached.

    Raises:
        UsageError: a key is unknown.
        CommandError: a benchmark could not measure, or a file cannot be written. Rows that were measured are printed
            and written.
    """
    selected = select(keys, benchmarks)
    # A table in a file or a pipe has no reason to be as narrow as a terminal.
    console, errors = Console(width=None if sys.stdout.isatty() else 180), Console(file=sys.stderr)
    description = system.describe()
    console.print(f"{description['machine']}; {description['system']}", highlight=False)
    if system.load() > BUSY:
        errors.print(f"load {system.load():.1f} before the start: other work disturbs timings", style="yellow")
    measured: dict[str, tuple[Benchmark, Measurement]] = {}
    failure: CommandError | None = None
    with tempfile.TemporaryDirectory(prefix="serl_bench_") as scratch:
        bench = Bench(tuple(range(seeds)), Path(scratch), lambda text: errors.print(text, style="dim", highlight=False))
        for benchmark in selected:
            bench.say(f"{benchmark.key}: {benchmark.what}")
            try:
                measured[benchmark.key] = (benchmark, benchmark.run(bench))
            except CommandError as error:
                failure = CommandError(f"{benchmark.key}: {error}", details=error.details)
                break
            _write(json_file, {key: found.value for key, (_, found) in measured.items()})
            _write(report, _full_report(description, measured))
    if measured:
        console.print(_table(measured.values(), description["machine"]))
    if failure is not None:
        raise failure
    return all(benchmark.reached(found.value) for benchmark, found in measured.values())


def _table(rows: Iterable[tuple[Benchmark, Measurement]], machine: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("key", "value", "goal", ""):
        table.add_column(column, no_wrap=True)
    table.add_column("spread")
    table.add_column("machine")
    for benchmark, found in rows:
        reached = benchmark.reached(found.value)
        verdict = Text("ok", style="green") if reached else Text("missed", style="bold red")
        value = f"{found.value:,.4g} {benchmark.unit}" if found.value < 1000 else f"{found.value:,.0f} {benchmark.unit}"
        table.add_row(benchmark.key, value, benchmark.goal_text, verdict, found.spread, machine)
    return table


def _full_report(description: dict[str, str], measured: dict[str, tuple[Benchmark, Measurement]]) -> dict[str, object]:
    rows = {
        key: {
            "value": found.value,
            "unit": benchmark.unit,
            "goal": benchmark.goal_text,
            "reached": benchmark.reached(found.value),
            "spread": found.spread,
            "details": dict(found.details),
        }
        for key, (benchmark, found) in measured.items()
    }
    return {"system": description, "benchmarks": rows}


def _write(path: Path | None, content: dict[str, object] | dict[str, float]) -> None:
    if path is not None:
        write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
