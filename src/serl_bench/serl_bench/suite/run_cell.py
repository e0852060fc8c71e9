# SPDX-License-Identifier: Apache-2.0
"""Runs one cell: a training and an evaluation of its last policy, by the commands that a person types."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from serl_config.files import FileError, read_text
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_launch.system import describe
from serl_training.learner.run_log import RunLogError, Series, read_metrics

from serl_bench.graph.training_runs import WARM_UP_STEPS, run
from serl_bench.suite.cell_files import CellResult, Evaluation, Final, Stretch, Training
from serl_bench.suite.plan import Cell, SuitePlan, code_hash
from serl_bench.suite.settings import TEACHER

STOP_TIMEOUT = 1.2  # [s] that a graph has to end after Ctrl-C; nothing of a cell that is broken off is kept
FIRST_FINAL_SEED = 1_000_000  # of start states that no training has evaluated on
_LONGEST_REASON = 300
_LARGEST_OUTPUT = 2**24  # [bytes]
_FEEDBACK_PERIOD = 2.0  # [s]


class _Failed(Exception):
    """The cell ends here; the message is its reason."""


@dataclass(frozen=True)
class CellRunner:
    """Runs the cells of one suite.

    Attributes:
        plan: of the suite.
        folder: of the trainings, a run directory each.
        tell: takes what the cell is at, a few words, now and then.
    """

    plan: SuitePlan
    folder: Path
    tell: Callable[[str], None]

    def run(self, cell: Cell) -> CellResult:
        """Runs a cell from its beginning. What goes wrong in it is its result; only a signal comes through."""
        common: dict[str, Any] = {
            "cell": cell,
            "settings_hash": self.plan.settings_hash(cell),
            "code_hash": code_hash(cell.task),
            "system": describe(),
        }
        directory = Run(self.folder / cell.name)
        shutil.rmtree(directory.path, ignore_errors=True)  # of a try that was broken off
        try:
            if cell.setting == TEACHER:
                return CellResult(**common, final=self._teacher(cell))
            self._train(cell, cell.name, self._max_env_steps(cell))
            training = _training(directory, self.plan.eval_every)
            final = self._evaluate(cell)
        except (_Failed, CommandError, RunLogError, FileError) as error:
            return CellResult(**common, failure=" ".join(str(error).split())[:_LONGEST_REASON])
        shutil.rmtree(directory.journal, ignore_errors=True)  # the large part, and nothing reads it any more
        return CellResult(**common, training=training, final=final)

    def warm_up(self, cell: Cell) -> None:
        """Lets a cell's agent compile once, into the cache. What goes wrong here will go wrong in the cell, too."""
        name = f"{cell.name}.warm-up"
        shutil.rmtree(self.folder / name, ignore_errors=True)
        try:
            self._train(cell, name, min(WARM_UP_STEPS, self._max_env_steps(cell)))
        except (_Failed, CommandError):
            return
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _max_env_steps(self, cell: Cell) -> int:
        return self.plan.max_env_steps if self.plan.setting(cell).learns_online else 1

    def _train(self, cell: Cell, name: str, max_env_steps: int) -> None:
        setting, plan = self.plan.setting(cell), self.plan
        command = [
            *("train", cell.task, "--name", name, "--seed", str(cell.seed), "--no-report"),
            *("--learning", setting.learning_of(cell.task), "--demos", str(setting.demonstrations)),
            *("--goal", str(plan.goal), "--confirm", str(plan.confirm), "--eval-every", str(plan.eval_every)),
            *("--eval-episodes", str(plan.eval_episodes), "--max-steps", str(max_env_steps)),
            *("--person", setting.person, *(["--interventions"] if setting.interventions else [])),
        ]
        status, output = self._serl(command, f"{name}.train", tick=self._follow(self.folder / name, max_env_steps))
        if not Run(self.folder / name).result_file.is_file():  # 1 is also what a goal that was not reached gives
            raise _Failed(f"training: {_last_words(output, status)}")

    def _evaluate(self, cell: Cell) -> Final:
        self.tell("evaluation of the last policy")
        command = ["eval", cell.name, "--episodes", str(self.plan.final_episodes), "--json"]
        command += ["--seed", str(FIRST_FINAL_SEED + cell.seed)]
        status, output = self._serl(command, f"{cell.name}.eval")
        if status:
            raise _Failed(f"evaluation: {_last_words(output, status)}")
        return _final(output)

    def _teacher(self, cell: Cell) -> Final:
        self.tell("the scripted expert")
        arguments = [cell.task, str(self.plan.final_episodes), str(FIRST_FINAL_SEED + cell.seed)]
        command = [sys.executable, "-m", "serl_bench.suite.teacher", *arguments]
        status, output = self._command(command, f"{cell.name}.teacher")
        if status:
            raise _Failed(f"expert: {_last_words(output, status)}")
        return _final(output)

    def _serl(self, arguments: list[str], name: str, tick: Callable[[], None] = lambda: None) -> tuple[int, str]:
        return self._command([sys.executable, "-m", "serl_cli", *arguments], name, tick)

    def _command(self, command: list[str], name: str, tick: Callable[[], None] = lambda: None) -> tuple[int, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.txt"
        environment = {**os.environ, "SERL_RUNS": str(self.folder)}
        with path.open("wb") as file:
            limits = {"timeout": self.plan.timeout, "stop_timeout": STOP_TIMEOUT}
            status = run(command, environment, file, **limits, tick=tick)
        return status, read_text(path, _LARGEST_OUTPUT)

    def _follow(self, directory: Path, max_env_steps: int) -> Callable[[], None]:
        """A tick that says how far a training is, from the numbers that it has written."""
        self.tell("demonstrations")
        next_look = time.monotonic() + _FEEDBACK_PERIOD

        def tick() -> None:
            nonlocal next_look
            if time.monotonic() < next_look:
                return
            next_look = time.monotonic() + _FEEDBACK_PERIOD
            metrics = read_metrics(directory)
            if (lengths := metrics.get("train/episode_length")) is not None:
                rate = metrics.get("eval/success_rate")
                success = "" if rate is None else f", success {rate.value[-1]:.0%}"
                self.tell(f"{int(lengths.env_steps[-1]):,} of {max_env_steps:,} env steps{success}")

        return tick


def _training(directory: Run, every: int) -> Training:
    """What a finished training has left behind, its course in stretches of `every` env steps.

    Raises RunLogError where its numbers are damaged.
    """
    result = json.loads(read_text(directory.result_file))
    metrics = read_metrics(directory.path)
    return Training(
        reached=result["success"],
        env_steps=result["env_steps"],
        wall_seconds=result["wall_seconds"],
        interventions=_intervention_share(metrics),
        course=course(metrics, every),
        evaluations=_evaluations(metrics, directory.config_file.stat().st_mtime),  # written as the graph starts
    )


def _evaluations(metrics: Mapping[str, Series], start: float) -> tuple[Evaluation, ...]:
    rate, episodes = metrics.get("eval/success_rate"), metrics.get("eval/episodes")
    if rate is None or episodes is None or len(rate.value) != len(episodes.value):
        raise _Failed("training: its metrics have no evaluations")
    return tuple(
        Evaluation(int(step), int(count), float(value), round(float(at - start), 3))
        for step, count, value, at in zip(rate.env_steps, episodes.value, rate.value, rate.wall_time, strict=True)
    )


def _intervention_share(metrics: Mapping[str, Series]) -> float:
    rate, length = metrics.get("train/intervention_rate"), metrics.get("train/episode_length")
    if rate is None or length is None or not len(rate.value) or len(rate.value) != len(length.value):
        return 0.0
    return float(np.average(rate.value, weights=length.value))


def course(metrics: Mapping[str, Series], every: int) -> tuple[Stretch, ...]:
    """The training episodes of a run, put together in stretches of `every` env steps; none where there were none."""
    rate, length, success = (
        metrics.get(f"train/{name}") for name in ("intervention_rate", "episode_length", "success")
    )
    if (
        rate is None
        or length is None
        or success is None
        or not len(rate.value) == len(length.value) == len(success.value)
    ):
        return ()
    ends = -(-rate.env_steps.astype(np.int64) // every) * every
    led = np.rint(rate.value * length.value)
    found = []
    for end in np.unique(ends):
        here = ends == end
        alone = here & (led == 0)
        counts = here.sum(), length.value[here].sum(), led[here].sum(), alone.sum(), success.value[alone].sum()
        found.append(Stretch(int(end), *(int(count) for count in counts)))
    return tuple(found)


def _final(output: str) -> Final:
    """The JSON at the end of what a command printed, behind what nodes complained about."""
    try:
        values = json.loads(output[output.index("{") :])
        return Final(int(values["episodes"]), int(values["successes"]), float(values["mean_length"]))
    except (ValueError, KeyError) as error:
        raise _Failed(f"evaluation: expected JSON, found {output[-_LONGEST_REASON:]!r}") from error


def _last_words(output: str, status: int) -> str:
    """Why a command failed: its line of error, or the last one that it printed."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("serl: error:")]
    words = (errors or lines or ["it printed nothing"])[-1].removeprefix("serl: error:").strip()
    return f"{words} (exit status {status})"
