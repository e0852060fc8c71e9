# SPDX-License-Identifier: Apache-2.0
"""Sweeps by Ray: trials in workers of a Ray on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_train import QUIET, eventually, processes_with, start, starts, sweep_script
from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.ray_pool import LOCAL, RayPool
from serl_cli.sweep.run_trials import TrialLostError, TrialRunner, run_sweep
from serl_cli.sweep.settings import Sweep
from serl_launch.errors import CommandError

pytest.importorskip("ray", reason="./serl setup ray")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RayPool]:
    made = RayPool(LOCAL, tmp_path, 2)
    yield made
    made.shutdown()


def test_trials_run_in_workers_and_what_fails_is_a_row(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, pool: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (pool.jobs, pool.cores) == (2, 4)
    # the workers are there already, with the environment of before
    monkeypatch.setenv("TRIAL_DOES", "fail")
    run_sweep(sweep, folder, QUIET, jobs=2, runner=runner, executor=pool)
    rates = [(folder.result(trial) or {}).get("success_rate") for trial in sweep.trials]
    assert rates == [0.5, 0.5, 1.0, 1.0]
    run_sweep(sweep, folder, QUIET, jobs=2, runner=runner)
    assert [starts(folder, trial.name) for trial in sweep.trials] == [["new free"]] * 4


def test_what_a_machine_cannot_do_is_told_and_ends_nothing(pool: RayPool, tmp_path: Path) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    died, fine = pool.submit(die), pool.submit(max, 1, 2)
    assert fine.result(60) == 2
    with pytest.raises(TrialLostError, match="worker"):
        died.result(60)
    pool._folder = tmp_path / "elsewhere"
    with pytest.raises(TrialLostError, match=r"has no .*elsewhere: each machine"):
        pool.submit(max, 1, 2).result(60)


def test_an_address_without_a_ray_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="--ray auto: there is no Ray") as caught:
        RayPool("auto", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_end_at_any_moment_leaves_no_process_and_the_next_call_goes_on(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, tmp_path: Path, by: signal.Signals
) -> None:
    process = start(sweep_script(tmp_path, folder), TRIAL_DOES="wait", BY_RAY="1")
    begun = [folder.path / trial.name / "starts" for trial in sweep.trials[:2]]
    eventually(lambda: all(path.exists() for path in begun), "two trials run")
    process.send_signal(by)
    said, _ = process.communicate(timeout=60)
    assert ("interrupted with 4 trials left" in said) == (by == signal.SIGINT)
    eventually(lambda: not processes_with(str(folder.path)), "nothing of the trials is left")
    run_sweep(sweep, folder, QUIET, jobs=2, runner=runner)
    assert [starts(folder, trial.name)[-1] for trial in sweep.trials] == ["resume free"] * 2 + ["new free"] * 2
