# SPDX-License-Identifier: Apache-2.0
"""What a person decides about a training, and how it is kept in config.yaml."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

from serl_config.resources import listing
from serl_config.schema import ConfigError, Field, build, config, read_yaml
from serl_config.strict_yaml import YamlError, parse_yaml
from serl_config.text import printable, shown
from serl_launch.domain import running_graphs
from serl_launch.errors import CommandError, UsageError
from serl_launch.runs import Run
from serl_launch.system import describe
from serl_rl.reward.classifier_file import read_classifier
from serl_rl.spec import differences
from serl_rl.storage.journal import JournalError, check_free, journal_spec
from serl_training.link.contract import meaning_of
from serl_training.reward.reward_frames import check_source, frame_source

from serl_cli import __version__
from serl_cli.ranges import LARGEST_COUNT
from serl_launch import runs
from serl_tasks import get_task

# What may change when a run is continued; the rest is in the data already.
CHANGEABLE = frozenset({"max_steps", "goal", "eval_every", "eval_episodes", "rtf", "viewer"})
_DEEPEST_KEY = 8
_SHOWN = {"task": "TASK", "settings": "--set"}


@config(kw_only=True)
class Plan:
    """Everything a person decides about a training, under the names of the command line's options."""

    task: str
    seed: int = Field(ge=0, le=LARGEST_COUNT)
    demos: int = Field(ge=0, le=LARGEST_COUNT)
    demo_file: str  # taken instead of recording; empty: record
    max_steps: int = Field(ge=1, le=LARGEST_COUNT)  # online env steps after which to give up
    eval_every: int = Field(ge=1, le=LARGEST_COUNT)  # [env steps]
    eval_episodes: int = Field(ge=1, le=LARGEST_COUNT)
    goal: float = Field(ge=0.0, le=1.0)  # success rate of an evaluation that ends the training
    interventions: bool
    rtf: float = Field(ge=0.0)  # real-time factor; 0: lockstep
    learning: str  # name of a file in config/learning
    settings: tuple[str, ...]  # KEY=VALUE, on top of it
    viewer: bool
    reward: Literal["truth", "classifier", "human"] = "truth"  # who judges
    classifier: str = ""  # file of the classifier that judges


def check_task(name: str) -> None:
    """Raises UsageError unless there is a task of this name."""
    tasks = listing("config/tasks", ".yaml")
    if name not in tasks:
        raise UsageError(f"no task {name!r}: there are {', '.join(tasks) or 'none'}")


def check_reward(plan: Plan) -> None:
    """Refuses a judge that cannot judge this training.

    Raises:
        UsageError: --reward, --classifier and --rtf do not fit each other.
        ClassifierError: the classifier's file is damaged.
        DataError: it is for another task, other cameras or other crops.
    """
    if bool(plan.classifier) != (plan.reward == "classifier"):
        raise UsageError("--reward classifier and --classifier FILE belong together")
    if plan.reward == "human" and plan.rtf == 0.0:
        raise UsageError("--reward human: nobody can follow a world that runs as fast as it can; add --rtf 1")
    if plan.classifier:
        info, _ = read_classifier(Path(plan.classifier))
        check_source(plan.classifier, info.source, frame_source(get_task(plan.task), info.source.stages))


def resolve_learning(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """The learning configuration with the person's changes, checked.

    Raises:
        UsageError: there is no such configuration, or a change is not KEY=VALUE with a known key and a possible value.
        ConfigError: the configuration itself is wrong.
    """
    from serl_rl.config import LearningConfig

    known = listing("config/learning", ".yaml")
    if name not in known:
        raise UsageError(f"no learning configuration {name!r}: there are {', '.join(known) or 'none'}")
    values, _ = read_yaml(known[name])
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not key or not separator:
            raise UsageError(f"--set {printable(setting, 80)}: expected KEY=VALUE")
        *parents, last = key.split(".")
        if len(parents) > _DEEPEST_KEY:
            raise UsageError(f"--set {printable(setting, 80)}: no key has more than {_DEEPEST_KEY} dots")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {printable(setting, 80)}: {parent} is a value, it has no {last}")
        try:
            place[last] = parse_yaml(text, f"--set {printable(setting, 80)}")
        except YamlError as error:
            raise UsageError(str(error)) from error
    try:
        build(LearningConfig, values, f"--set on {name}.yaml")
    except ConfigError as error:
        if settings:
            raise UsageError(str(error)) from error
        raise
    return values


def read_plan(run: Run) -> Plan:
    """The plan that a run was started with.

    Raises:
        CommandError: config.yaml does not hold one.
    """
    stored = runs.read_config(run).get("plan")
    try:
        if not isinstance(stored, dict):
            raise ConfigError(f"{printable(run.config_file)}: expected a mapping 'plan', found {shown(stored)}")
        plan = build(Plan, stored, f"{printable(run.config_file)}: plan")
    except ConfigError as error:
        raise CommandError(f"{error}; this run cannot be used before that is restored") from error
    try:
        check_task(plan.task)
    except UsageError as error:
        raise CommandError(f"{printable(run.config_file)}: {error}; restore the file of the task") from error
    return plan


def write_plan(run: Run, plan: Plan) -> None:
    """Writes config.yaml: the plan, and the task and learning configuration as they are used."""
    config = {
        "serl": __version__,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "plan": {**asdict(plan), "settings": list(plan.settings)},
        "system": describe(),
        "learning": read_yaml(run.learning_file)[0],
        "task": json.loads(json.dumps(asdict(get_task(plan.task)))),  # with what it extends, and defaults
    }
    runs.write_config(run, config)


def check_unchanged(run: Run, plan: Plan) -> None:
    """Refuses to go on with a run that a learner works on, or whose data were made with other settings.

    What the learner alone can tell, as which encoder has which weights, it refuses itself.

    Raises:
        CommandError: names the run's file and what is different, field by field.
    """
    try:
        check_free(run.journal)
    except JournalError as error:
        raise CommandError(str(error)) from error
    for graph in running_graphs():  # its learner may not have come so far yet
        if graph.run_dir and Path(graph.run_dir).resolve() == run.path.resolve():
            raise CommandError(
                f"{run.path}: the graph {graph.name!r} (process {graph.pid}) trains it already; end it first"
            )
    stored, found = runs.read_config(run).get("learning"), read_yaml(run.learning_file)[0]
    if isinstance(stored, dict) and (words := differences(stored, found)):
        raise CommandError(
            f"{run.learning_file}: was changed since the run was begun: {'; '.join(words)}; restore it, or begin a new "
            "run"
        )
    try:
        made = journal_spec(run.journal)
    except JournalError:
        return  # nothing was stored, or the learner says what is wrong with it
    now = replace(made, meaning=meaning_of(get_task(plan.task)))
    if not now.agrees(made):
        raise CommandError(
            f"{run.journal}: the task {plan.task} means something else now: {now.difference(made)}; restore the files "
            "of task and robot as they were, or begin a new run"
        )


def continued(before: Plan, wanted: Plan, given: set[str]) -> Plan:
    """The plan for going on with a run.

    Args:
        before: what the run was started with.
        wanted: what the command line says now.
        given: options of the command line that the person really gave.

    Raises:
        UsageError: an option differs that must not.
    """
    options = [field.name for field in fields(Plan) if field.name in given]
    fixed = [name for name in options if name not in CHANGEABLE and getattr(wanted, name) != getattr(before, name)]
    if fixed:
        names = ", ".join(_SHOWN.get(name, f"--{name.replace('_', '-')}") for name in fixed)
        raise UsageError(f"{names} cannot change when a run is continued: its data were made with another value")
    return replace(before, **{name: getattr(wanted, name) for name in options})
