# SPDX-License-Identifier: Apache-2.0
"""What ``serl sweep`` does."""

import os
import sys
from pathlib import Path

from rich.console import Console
from serl_launch.errors import CommandError

from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.report import write_report
from serl_cli.sweep.run_trials import CORES_OF_A_TRIAL, describe, run_sweep
from serl_cli.sweep.settings import Sweep, Trial, read_sweep
from serl_launch import runs


def sweep(
    file: Path,
    *,
    jobs: int,
    folder: Path | None,
    ray: str = "",
    dry_run: bool = False,
    redo: bool = False,
    report_only: bool = False,
) -> None:
    """Run what is missing of a sweep, and report.

    Args:
        file: that says what the trials are.
        jobs: trials at once; 0: one for each two cores of this machine.
        folder: where the sweep is kept; None: sweeps/NAME below the runs.
        ray: address of a Ray cluster whose machines run the trials, or `local`; empty: this process does.
        dry_run: list the trials, and run none.
        redo: run again what failed.
        report_only: report of what there is, and run none.

    Raises:
        UsageError, ConfigError: the file cannot be used.
        CommandError: the folder cannot be used, there is nothing to report, or no trial has a result.
        Interrupted: a person pressed Ctrl-C.
    """
    console = Console(width=None if sys.stdout.isatty() else 180)  # a table in a file need not be narrow
    found = read_sweep(file)
    kept = SweepFolder(folder or runs.runs_root() / "sweeps" / found.name)
    if dry_run:
        for line in kept.changes(found):
            console.print(
                f"the file has changed since: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )
        for trial in found.trials:
            console.print(f"{trial.name}: {_state(kept, trial)}", highlight=False, markup=False, soft_wrap=True)
        return
    if report_only and not kept.is_there():
        raise CommandError(f"{kept.path} is no sweep that has begun: run it without --report-only first")
    if not report_only:
        if ray:
            _run_by_ray(found, kept, console, ray, jobs, redo=redo)
        else:
            cores = os.cpu_count() or 1
            run_sweep(found, kept, console, jobs=jobs or max(1, cores // CORES_OF_A_TRIAL), redo=redo)
    write_report(found, kept, console)
    if all(kept.result(trial) is None for trial in found.trials):
        raise CommandError(f"no trial of {kept.path} has a result; why is in table.md and output/ there")


def _run_by_ray(found: Sweep, kept: SweepFolder, console: Console, address: str, jobs: int, *, redo: bool) -> None:
    from serl_cli.sweep.ray_pool import RayPool

    kept = SweepFolder(kept.path.resolve())  # other machines have other working folders
    with kept.opened(found):
        pass  # refuses what it has to before there is a Ray
    with RayPool(address, kept.path, jobs) as pool:
        if not pool.jobs:
            raise CommandError(f"--ray {address}: expected a machine of at least 2 cores, found {pool.cores} in all")
        console.print(
            f"Ray at {pool.address}, {pool.cores} cores: it listens on all interfaces of its machines, and whoever has "
            "its token can run programs there",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        run_sweep(found, kept, console, jobs=min(jobs or pool.jobs, pool.jobs), redo=redo, executor=pool)


def _state(kept: SweepFolder, trial: Trial) -> str:
    if failure := kept.failure(trial):
        return f"failed: {failure}"
    if kept.result(trial) is not None:
        return describe(kept, trial, "")
    return "begun" if kept.run(trial).config_file.is_file() else "to be run"
