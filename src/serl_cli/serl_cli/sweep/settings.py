# SPDX-License-Identifier: Apache-2.0
"""The file of a sweep, and the trials that it asks for."""

import dataclasses
import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from serl_config.schema import ConfigError, Field, build, config, load_yaml, suggestion
from serl_config.text import printable
from serl_launch.errors import UsageError
from serl_rl.config import LearningConfig

from serl_cli.names import on_robot
from serl_cli.ranges import LARGEST_COUNT, MOST_CONFIRMATIONS
from serl_cli.training_plan import ACT, person_settings, resolve_learning
from serl_tasks import get_task

MOST_TRIALS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_LONGEST_NAME = 120  # of a trial; longer ones end in a part of their hash
_DIGITS = 4  # that a drawn number has, so that its name says it whole
_TRIES = 100  # to draw what was not drawn before, for each one


@config(kw_only=True)
class TrainOptions:
    """Options of `./serl train` that trials may have, under their names; None: its default."""

    robot: str | None = None
    demos: int | None = Field(default=None, ge=0, le=LARGEST_COUNT)
    demo_file: str | None = None
    max_steps: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    goal: float | None = Field(default=None, ge=0.0, le=1.0)
    confirm: int | None = Field(default=None, ge=0, le=MOST_CONFIRMATIONS)
    eval_every: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    eval_episodes: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    interventions: bool | None = None
    person: str | None = None
    rtf: float | None = Field(default=None, ge=0.0)
    learning: str | None = None
    from_policy: str | None = None
    init_from: str | None = None


OPTIONS = tuple(field.name for field in dataclasses.fields(TrainOptions))


@config(kw_only=True)
class SweepFile:
    """A file of a sweep. `parameters` are lists of values or, where they are drawn, ranges `{min, max, log}`."""

    name: str = ""  # of the folder; empty: that of the file
    tasks: tuple[str, ...] = ("insert_peg_vision",)
    seeds: int | tuple[int, ...] = 3  # so many from 0 on, or these
    method: Literal["grid", "random"] = "grid"
    trials: int = Field(default=0, ge=0, le=MOST_TRIALS)  # random: combinations that are drawn, each with all seeds
    draw_seed: int = Field(default=0, ge=0, le=LARGEST_COUNT)  # of what is drawn
    train: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)


@config(kw_only=True)
class _Range:
    """The least and the largest number that is drawn; a whole one where both are."""

    min: int | float
    max: int | float
    log: bool = False


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        name: of it and of its folder.
        task: with its robot.
        seed: of everything random in it.
        values: of the parameters by their names: options of `./serl train`, or keys of the learning settings.
        options: of `./serl train` that all trials have, by their names.
    """

    name: str
    task: str
    seed: int
    values: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def setting(self) -> str:
        """The parameters in words, the same for all tasks and seeds."""
        return ", ".join(f"{key}={_text(value)}" for key, value in self.values.items()) or "as it is"

    def definition(self) -> dict[str, Any]:
        """What makes it, for JSON."""
        return {**asdict(self), "values": dict(self.values), "options": dict(self.options)}

    def arguments(self) -> list[str]:
        """Words behind `./serl` that train it in a new run."""
        merged = {**self.options, **{key: value for key, value in self.values.items() if key in OPTIONS}}
        words = ["train", self.task, "--name", self.name, "--seed", str(self.seed), "--no-report"]
        for key, value in merged.items():
            option = f"--{key.replace('_', '-')}"
            if isinstance(value, bool):
                words += [option if value else f"--no-{key.replace('_', '-')}"]
            elif key != "robot":  # the task is that of the robot
                words += [option, str(value)]
        return words + [word for change in self._changes() for word in ("--set", change)]

    def _changes(self) -> list[str]:
        return [f"{key}={_text(value)}" for key, value in self.values.items() if key not in OPTIONS]

    def check(self) -> None:
        """Refuses what `./serl train` would refuse, before anything runs.

        Raises:
            UsageError, ConfigError: says what is unknown or of another type.
        """
        merged = {**self.options, **{key: value for key, value in self.values.items() if key in OPTIONS}}
        if merged.get("learning") == ACT:
            raise UsageError("learning: act is trained in one go, without env steps: start it by ./serl train")
        if "person" in merged:
            person_settings(merged["person"])
        resolve_learning(merged.get("learning") or get_task(self.task).learning, self._changes())


@dataclass(frozen=True)
class Sweep:
    """What a file asks for: the name of its folder, and its trials in the order in which they run."""

    name: str
    trials: tuple[Trial, ...]


def read_sweep(path: Path) -> Sweep:
    """The trials of a file, all checked.

    Raises:
        ConfigError, UsageError: the file, or a trial, cannot be used; one line says which key, and what was expected.
    """
    file = load_yaml(path, SweepFile)
    source = printable(path)
    try:
        return _read(file, path)
    except (ConfigError, UsageError) as error:
        text = str(error)
        raise UsageError(text if text.startswith(source) else f"{source}: {text}") from error


def _read(file: SweepFile, path: Path) -> Sweep:
    name = file.name or path.stem
    if not _NAME.fullmatch(name):
        raise UsageError(f"name: expected letters, digits and . _ + -, found {printable(name, 80)!r}")
    seeds = tuple(range(file.seeds)) if isinstance(file.seeds, int) else file.seeds
    if not seeds or min(seeds) < 0:
        raise UsageError("seeds: expected how many (from 1 on), or a list of numbers from 0 on")
    if not file.tasks:
        raise UsageError("tasks: expected at least one")
    _refuse_unknown(file)
    build(TrainOptions, {key: value for key, value in file.train.items() if value is not None}, "train")
    combinations = list(_combinations(file))
    if not combinations:
        raise UsageError("parameters: the grid is empty: every parameter needs at least one value")
    if len(combinations) * len(file.tasks) * len(seeds) > MOST_TRIALS:
        raise UsageError(f"more than {MOST_TRIALS:,} trials: take fewer values, seeds or tasks")
    trials = []
    for values in combinations:
        build(TrainOptions, {key: value for key, value in values.items() if key in OPTIONS}, "parameters")
        for task, seed in itertools.product(file.tasks, seeds):
            trials.append(_trial(file, task, seed, values))
    seen: dict[str, Trial] = {}
    for trial in trials:
        if trial.name in seen:
            raise UsageError(f"two trials are named {trial.name}: a task, a seed or a value stands there twice")
        seen[trial.name] = trial
    checked = set()
    for trial in trials:
        if (key := (trial.task, trial.setting)) not in checked:
            checked.add(key)
            trial.check()
    return Sweep(name, tuple(trials))


def _refuse_unknown(file: SweepFile) -> None:
    keys = [field.name for field in dataclasses.fields(LearningConfig)]
    for key in file.train:
        if key not in OPTIONS:
            raise UsageError(f"train: unknown option {printable(key, 80)!r}{suggestion(key, OPTIONS)}")
    for key in file.parameters:
        if key not in OPTIONS and key.partition(".")[0] not in keys:
            known = [*OPTIONS, *keys]
            raise UsageError(f"parameters: unknown setting {printable(key, 80)!r}{suggestion(key, known)}")
        if key in file.train:
            raise UsageError(f"{key} stands in train and in parameters: leave it out in one of them")


def _combinations(file: SweepFile) -> Iterator[dict[str, Any]]:
    for key, given in file.parameters.items():
        if isinstance(given, dict) and file.method == "grid":
            raise UsageError(f"parameters: {key}: a range is for method: random; list the values")
        if not isinstance(given, list | dict):
            raise UsageError(f"parameters: {key}: expected a list of values, found {_text(given)}")
        if not given:
            raise UsageError(f"parameters: {key}: the grid is empty: expected at least one value")
    if file.method == "grid":
        if file.trials:
            raise UsageError("trials is for method: random; a grid has as many as its values make")
        keys = list(file.parameters)
        for chosen in itertools.product(*file.parameters.values()):
            yield dict(zip(keys, chosen, strict=True))
        return
    if not file.trials or not file.parameters:
        raise UsageError("method: random needs trials: N, how many combinations are drawn, and parameters")
    ranges = {
        key: build(_Range, given, f"parameters: {key}")
        for key, given in file.parameters.items()
        if isinstance(given, dict)
    }
    for key, ends in ranges.items():
        if ends.min >= ends.max or (ends.log and ends.min <= 0):
            raise UsageError(f"parameters: {key}: expected min < max, and min > 0 with log")
    generator = random.Random(file.draw_seed)
    seen: set[str] = set()
    for _ in range(file.trials * _TRIES):
        drawn = {
            key: _draw(ranges[key], generator) if key in ranges else generator.choice(given)
            for key, given in file.parameters.items()
        }
        if (text := json.dumps(drawn, sort_keys=True)) not in seen:
            seen.add(text)
            yield drawn
        if len(seen) == file.trials:
            return
    raise UsageError(f"trials: the parameters have only {len(seen)} combinations, of {file.trials} to be drawn")


def _draw(ends: _Range, generator: random.Random) -> int | float:
    if ends.log:
        drawn = math.exp(generator.uniform(math.log(ends.min), math.log(ends.max)))
    else:
        drawn = generator.uniform(ends.min, ends.max)
    if isinstance(ends.min, int) and isinstance(ends.max, int):
        return min(max(round(drawn), ends.min), ends.max) if ends.log else generator.randint(ends.min, ends.max)
    return min(max(float(f"{drawn:.{_DIGITS}g}"), ends.min), ends.max)


def _trial(file: SweepFile, task: str, seed: int, values: Mapping[str, Any]) -> Trial:
    options = {key: value for key, value in file.train.items() if value is not None}
    robot = values.get("robot", options.get("robot", ""))
    short = _short_keys(list(values))
    parts = [task, *(f"{short[key]}-{_text(value)}" for key, value in values.items()), f"seed-{seed}"]
    name = ".".join(re.sub(r"[^A-Za-z0-9._+-]+", "_", part) for part in parts)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 9]}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Trial(name, on_robot(task, robot), seed, values, options)


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key where that says which one is meant."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: part if last.count(part) == 1 else key for key, part in zip(keys, last, strict=True)}


def _text(value: Any) -> str:
    """A value as `--set` reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf).strip()
    return text.removesuffix("\n...").removesuffix("...").strip()
