# SPDX-License-Identifier: Apache-2.0
"""Sweeps: the trials of a file, which of them run, what survives an end, and what they say together."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from emulated_train import FILE, QUIET, eventually, processes_with, start, starts, sweep_script, written
from rich.console import Console
from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.report import ALL, ROWS, TABLE, TRIALS, rows, write_report
from serl_cli.sweep.run_trials import LOST_TRIES, TrialRunner, run_sweep
from serl_cli.sweep.settings import Sweep, read_sweep
from serl_cli.sweep.statistics import estimate, held, interquartile_mean
from serl_config.schema import ConfigError
from serl_launch.errors import CommandError, UsageError


def go(sweep: Sweep, folder: SweepFolder, runner: TrialRunner, *, redo: bool = False) -> None:
    run_sweep(sweep, folder, QUIET, jobs=2, redo=redo, runner=runner)


def test_every_combination_is_a_trial_with_every_seed(sweep: Sweep) -> None:
    names = [f"pick_cube.utd_ratio-{ratio}.seed-{seed}" for ratio in (1, 2) for seed in (0, 1)]
    assert [trial.name for trial in sweep.trials] == names
    assert sweep.trials[3].arguments() == [
        *("train", "pick_cube", "--name", names[3], "--seed", "1", "--no-report"),
        *("--max-steps", "100", "--set", "utd_ratio=2"),
    ]


def test_what_is_drawn_is_within_its_range_and_the_same_again(tmp_path: Path) -> None:
    text = (
        "method: random\ntrials: 20\ntasks: [pick_cube]\nseeds: [7]\n"
        "parameters: {sac.actor_lr: {min: 1.0e-4, max: 1.0e-2, log: true}, demos: {min: 1, max: 9}}\n"
    )
    first, second = (read_sweep(written(tmp_path, text)) for _ in range(2))
    assert first == second
    rates = [trial.values["sac.actor_lr"] for trial in first.trials]
    assert len(set(rates)) == 20 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 3 < sum(rate < 1e-3 for rate in rates) < 17, "as many below the middle of the logarithm as above"
    assert all(isinstance(trial.values["demos"], int) and 1 <= trial.values["demos"] <= 9 for trial in first.trials)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tsks: [pick_cube]", "tsks"),
        ("tasks: [pick_cub]", "pick_cub"),
        ("tasks: []", "tasks: expected at least one"),
        ("tasks: [pick_cube]\nseeds: 0", "seeds"),
        ("tasks: [pick_cube]\nparameters: {utd_rato: [1]}", "utd_rato.*utd_ratio"),
        ("tasks: [pick_cube]\nparameters: {utd_ratio: [fast]}", "utd_ratio"),
        ("tasks: [pick_cube]\nparameters: {utd_ratio: []}", "the grid is empty"),
        ("tasks: [pick_cube]\nparameters: {utd_ratio: 2}", "expected a list"),
        ("tasks: [pick_cube]\nparameters: {utd_ratio: [2, 2]}", "two trials are named"),
        ("tasks: [pick_cube]\nparameters: {utd_ratio: {min: 1, max: 3}}", "method: random"),
        ("tasks: [pick_cube]\ntrain: {demo: 3}", "demo"),
        ("tasks: [pick_cube]\ntrain: {demos: 3}\nparameters: {demos: [1]}", "in train and in parameters"),
        ("tasks: [pick_cube]\nmethod: random\ntrials: 9\nparameters: {utd_ratio: [1, 2]}", "only 2 combinations"),
        ("tasks: [pick_cube]\nname: ../there", "name"),
        ("[", "file.yaml"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=message) as caught:
        read_sweep(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_all_trials_run_in_domains_of_their_own_and_a_second_call_runs_none(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    go(sweep, folder, runner)
    go(sweep, folder, runner)
    assert [starts(folder, trial.name) for trial in sweep.trials] == [["new free"]] * 4
    assert [folder.result(trial)["success_rate"] for trial in sweep.trials] == [0.5, 0.5, 1.0, 1.0]  # type: ignore[index]


def test_one_that_fails_is_kept_with_its_reason_and_ends_nothing(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAL_DOES", "fail")
    go(sweep, folder, runner)
    failures = [folder.failure(trial) for trial in sweep.trials]
    assert failures == ["", "serl: error: no arm", "", "serl: error: no arm"]
    monkeypatch.delenv("TRIAL_DOES")
    go(sweep, folder, runner)
    assert folder.result(sweep.trials[1]) is None, "failed ones wait for --redo"
    go(sweep, folder, runner, redo=True)
    assert starts(folder, sweep.trials[1].name) == ["new free", "resume free"]
    assert all(folder.result(trial) for trial in sweep.trials)


def test_one_that_is_killed_goes_on_and_one_that_always_is_has_failed(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAL_DOES", "die")
    go(sweep, folder, runner)
    assert [starts(folder, trial.name) for trial in sweep.trials] == [["new free", "resume free"]] * 4
    other = SweepFolder(folder.path.with_name("other"))
    monkeypatch.setenv("TRIAL_DOES", "die always")
    go(sweep, other, TrialRunner(other, runner.command))
    assert all(f"killed {LOST_TRIES} times" in other.failure(trial) for trial in sweep.trials)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_end_at_any_moment_leaves_no_process_and_the_next_call_goes_on(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, tmp_path: Path, by: signal.Signals
) -> None:
    process = start(sweep_script(tmp_path, folder), TRIAL_DOES="wait")
    begun = [folder.path / trial.name / "starts" for trial in sweep.trials[:2]]
    eventually(lambda: all(path.exists() for path in begun), "two trials run")
    with pytest.raises(CommandError, match="another process runs the sweep"):
        go(sweep, folder, runner)
    process.send_signal(by)
    said, _ = process.communicate(timeout=60)
    assert ("interrupted with 4 trials left" in said) == (by == signal.SIGINT)
    eventually(lambda: not processes_with(str(folder.path)), "nothing of the trials is left")
    go(sweep, folder, runner)
    assert [starts(folder, trial.name)[-1] for trial in sweep.trials] == ["resume free"] * 2 + ["new free"] * 2


def test_a_file_that_has_grown_has_new_trials_and_one_that_has_changed_is_refused(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, tmp_path: Path
) -> None:
    go(sweep, folder, runner)
    go(read_sweep(written(tmp_path, FILE.replace("[1, 2]", "[1, 2, 3]"))), folder, runner)
    assert starts(folder, "pick_cube.utd_ratio-3.seed-0") == ["new free"]
    with pytest.raises(CommandError, match=r"max_steps: 100 -> 200 for 4 trials"):
        go(read_sweep(written(tmp_path, FILE.replace("100", "200"))), folder, runner)
    with pytest.raises(CommandError, match="is the folder of the sweep 'few'"):
        go(read_sweep(written(tmp_path, FILE.replace("few", "other"))), folder, runner)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(CommandError, match="is not the folder of a sweep"):
        go(sweep, SweepFolder(tmp_path / "mine"), runner)
    lost = folder.path / "pick_cube.utd_ratio-9.seed-0"
    (lost / "journal").mkdir(parents=True)
    with pytest.raises(CommandError, match=r"expected config.yaml and learning.yaml beside its journal"):
        go(read_sweep(written(tmp_path, FILE.replace("[1, 2]", "[1, 2, 3, 9]"))), folder, runner)
    assert (lost / "journal").is_dir()
    (tmp_path / "plain").touch()
    with pytest.raises(CommandError, match="cannot use the folder"):
        go(sweep, SweepFolder(tmp_path / "plain"), runner)


def test_the_report_has_a_row_for_each_setting_and_a_picture(
    sweep: Sweep, folder: SweepFolder, runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(sweep, folder, runner)
    found = {row.setting: row for row in rows(sweep, folder)}
    assert (found["utd_ratio=1"].success, found["utd_ratio=1"].reached, found["utd_ratio=1"].steps) == (0.5, 0, None)
    assert (found["utd_ratio=2"].success, found["utd_ratio=2"].reached, found["utd_ratio=2"].steps) == (1.0, 2, 80)
    text = io.StringIO()
    write_report(sweep, folder, Console(file=text, width=80))
    words = text.getvalue().split()  # whole, on the usual terminal
    assert {"pick_cube", "utd_ratio=1", "utd_ratio=2", "success", "reached", "failed"} <= set(words)
    assert (folder.path / TABLE).read_text(encoding="utf-8").count("| pick_cube |") == 2
    assert (folder.path / ROWS).read_text(encoding="utf-8").count("\n") == 3
    assert len(json.loads((folder.path / TRIALS).read_text(encoding="utf-8"))) == 4
    assert (folder.path / "success.png").read_bytes()[:4] == b"\x89PNG"


def test_over_several_tasks_there_is_a_row_of_all(tmp_path: Path, runner: TrialRunner, folder: SweepFolder) -> None:
    sweep = read_sweep(written(tmp_path, FILE.replace("[pick_cube]", "[pick_cube, insert_peg]")))
    go(sweep, folder, runner)
    assert [row.task for row in rows(sweep, folder)] == ["pick_cube", "insert_peg", ALL] * 2


def test_the_mean_is_that_of_the_middle_half_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 4, 7, 8, 10, 101):
        scores = rng.random(count)
        cut = int(0.25 * count)  # what scipy.stats.trim_mean(scores, 0.25) leaves out on each side
        assert interquartile_mean(scores) == pytest.approx(np.mean(sorted(scores)[cut : count - cut]))
    tasks = [rng.normal(0.3, 0.1, 12), rng.normal(0.8, 0.05, 12)]
    found = estimate(tasks)
    drawn = []
    for _ in range(4000):  # drawn anew for each task by itself, by hand
        scores = sorted([*rng.choice(tasks[0], 12), *rng.choice(tasks[1], 12)])
        drawn.append(np.mean(scores[6:18]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.01)
    assert found.low < found.mean < found.high
    assert estimate([[0.5]]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="at least one run"):
        estimate([[1.0], []])


def test_a_curve_holds_its_newest_value() -> None:
    values = held([10, 20], [0.1, 0.2], [0, 10, 19.9, 20, 99])
    np.testing.assert_array_equal(values, [np.nan, 0.1, 0.1, 0.2, 0.2])
