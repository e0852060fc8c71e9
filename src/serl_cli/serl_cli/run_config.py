# SPDX-License-Identifier: Apache-2.0
"""A run's config.yaml: the plan, and task, learning configuration and machine as they were when it was written.

The task is resolved: with what its file extends, and with every default. A run says by itself what it was, whatever
becomes of the files that it was made from. Runs of older versions do not hold the task; they need its file.
"""

import json
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from serl_config.resources import SHARE_VARIABLE
from serl_config.schema import ConfigError, build, read_yaml
from serl_config.text import printable, shown
from serl_launch.domain import running_graphs
from serl_launch.errors import CommandError, UsageError
from serl_launch.runs import Run
from serl_launch.system import describe
from serl_rl.base_action import with_base_action
from serl_rl.spec import differences
from serl_rl.storage.journal import JournalError, check_free, journal_spec
from serl_training.link.contract import load_learning, meaning_of

from serl_cli import __version__
from serl_cli.names import TASKS, check_task
from serl_cli.training_plan import TrainingPlan
from serl_launch import runs
from serl_tasks import get_task, task_names


@dataclass(frozen=True)
class RunConfig:
    """What a run's config.yaml says."""

    plan: TrainingPlan
    task: dict[str, Any] | None
    """The resolved task (of two the first), as its file would say it; None where a version kept its name alone."""
    learning: dict[str, Any] | None
    """The learning configuration, overrides included."""


def members(run: Run, plan: TrainingPlan) -> list[tuple[Run, TrainingPlan]]:
    """The folder in which each task's learner keeps its data, and the plan as that of a run of this task alone.

    Of a run of one task it is the run itself. Of one of two it is a folder of each within it, which is a run, too.
    """
    if not plan.partner:
        return [(run, plan)]
    return [(Run(run.path / task), replace(plan, task=task, partner="")) for task in plan.tasks]


def act_directory(run: Run) -> Path:
    """Where a run with the learning `act` has its policy, as LeRobot loads it."""
    return run.path / "act"


def resolved_task(name: str) -> dict[str, Any]:
    """Everything that a task's file says or leaves to a default, as plain values.

    Raises:
        ConfigError: there is no such task, or its file is wrong.
    """
    values: dict[str, Any] = json.loads(json.dumps(asdict(get_task(name))))
    return values


def write_run_config(run: Run, plan: TrainingPlan) -> None:
    """Writes config.yaml: the plan, and the task and learning configuration as they are used."""
    config = {
        "serl": __version__,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "plan": {**asdict(plan), "settings": list(plan.settings)},
        "system": describe(),
        "learning": read_yaml(run.learning_file)[0],
        "task": resolved_task(plan.task),
    }
    runs.write_config(run, config)


def read_run_config(run: Run) -> RunConfig:
    """What a run was started with. No file but config.yaml is needed, unless it does not hold the task.

    Raises:
        CommandError: config.yaml does not hold a plan, or its plan is for another task than the one it holds.
    """
    file = printable(run.config_file)
    stored = runs.read_config(run)
    try:
        plan, task = _build_plan(stored.get("plan"), file), _mapping(stored, "task", file)
        if task is not None and task.get("name") != plan.task:
            raise ConfigError(
                f"{file}: plan.task: expected {shown(task.get('name'))} as in 'task', found {plan.task!r}"
            )
        if task is None:
            check_task(plan.task)
        return RunConfig(plan, task, _mapping(stored, "learning", file))
    except UsageError as error:
        raise CommandError(f"{file}: {error}; restore the file of the task") from error
    except ConfigError as error:
        raise CommandError(f"{error}; this run cannot be used before that is restored") from error


def _build_plan(stored: Any, file: str) -> TrainingPlan:
    if not isinstance(stored, dict):
        raise ConfigError(f"{file}: expected a mapping 'plan', found {shown(stored)}")
    return build(TrainingPlan, stored, f"{file}: plan")


def _mapping(stored: dict[str, Any], key: str, file: str) -> dict[str, Any] | None:
    value = stored.get(key)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{file}: expected a mapping {key!r}, found {shown(value)}")
    return value


def task_changes(config: RunConfig) -> list[str]:
    """How the task's file of today differs from the task that the run holds, a line for each value; empty if it agrees.

    Raises:
        ConfigError: there is no such task any more, or its file is wrong.
    """
    return [] if config.task is None else differences(config.task, resolved_task(config.plan.task))


@contextmanager
def task_of_run(config: RunConfig) -> Iterator[list[str]]:
    """Lets this process and those that it starts find the run's task, also where its file is gone.

    Where the file is there, it counts as it is. Where it is not, the task that the run holds is written into a scratch
    folder, to which `SERL_SHARE` leads until the end.

    Gives:
        Lines that tell a person how the task differs from that of the run; none if it does not.

    Raises:
        ConfigError: the file of the task is wrong.
    """
    name = config.plan.task
    if config.task is None or name in task_names():
        yield [f"the task {name} has changed since the run was begun: {word}" for word in task_changes(config)]
        return
    with tempfile.TemporaryDirectory(prefix="serl_task_") as share:
        file = Path(share) / TASKS / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(config.task, sort_keys=False), encoding="utf-8")
        before = os.environ.get(SHARE_VARIABLE)
        os.environ[SHARE_VARIABLE] = os.pathsep.join(filter(None, (share, before)))
        try:
            yield [f"there is no file of the task {name} any more: it is taken from the run"]
        finally:
            if before is None:
                del os.environ[SHARE_VARIABLE]
            else:
                os.environ[SHARE_VARIABLE] = before


@contextmanager
def tasks_of_run(run: Run, plan: TrainingPlan) -> Iterator[list[str]]:
    """Lets them find the task of a run, or both tasks of a pair; as `task_of_run` otherwise."""
    with ExitStack() as stack:
        configs = [read_run_config(member) for member, _ in members(run, plan)]
        yield [note for config in configs for note in stack.enter_context(task_of_run(config))]


def check_unchanged(run: Run, plan: TrainingPlan, *, apart_from: Collection[str] = ()) -> None:
    """Refuses to go on with a run that a learner works on, or whose data were made with other settings.

    What the learner alone can tell, as which encoder has which weights, it refuses itself.

    Args:
        run: to go on with.
        plan: of the run.
        apart_from: learning settings that may have changed.

    Raises:
        CommandError: names the run's file and what is different, field by field.
    """
    try:
        check_task(plan.task)
    except UsageError as error:
        raise CommandError(
            f"{printable(run.config_file)}: {error}; restore the file of the task, which is kept there under 'task'"
        ) from error
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
    if apart_from and isinstance(stored, dict):
        stored, found = ({**each, **dict.fromkeys(apart_from)} for each in (stored, found))
    if isinstance(stored, dict) and (words := differences(stored, found)):
        raise CommandError(
            f"{run.learning_file}: was changed since the run was begun: {'; '.join(words)}; restore it, or begin a new "
            "run"
        )
    try:
        made = journal_spec(run.journal)
    except JournalError:
        return  # nothing was stored, or the learner says what is wrong with it
    task = get_task(plan.task)
    learning = load_learning(str(run.learning_file), task)
    now = replace(made, meaning=meaning_of(task, learning.acting.history))
    if learning.improves:
        now = with_base_action(now)
    if not now.agrees(made):
        raise CommandError(
            f"{run.journal}: the task {plan.task} means something else now: {now.difference(made)}; restore the files "
            "of task and robot as they were, or begin a new run"
        )
