# SPDX-License-Identifier: Apache-2.0
"""A run that makes an ACT policy of demonstrations: recorded through the graph, fitted here, evaluated in the graph.

The learner of the graph has no part in it, as nothing is learned from what the policy does.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from rich.console import Console
from serl_launch.errors import CommandError, DomainTakenError, Interrupted, UsageError
from serl_launch.runs import Run
from serl_launch.system import describe
from serl_rl.encoders.robot_pictures import read_picture_episodes
from serl_training.learner.run_log import RunLog, read_metrics

from serl_cli.names import check_task
from serl_cli.run_config import act_directory, write_run_config
from serl_cli.training_plan import TrainingPlan, check_teleop, person_settings
from serl_cli.work.act.fitting import ActRecipe, encoder_of, fit, read_recipe, recipe_tree, write_directory
from serl_cli.work.evaluate_policy import run_imported
from serl_cli.work.record_demonstrations import record
from serl_launch import runs
from serl_tasks import get_task

EVALUATION_SEED = 1000
"""Seed of the first start, as `./serl eval` has it."""
_NODE = "act"
_REFUSED = (
    *("partner", "interventions", "person", "reward", "classifier", "from_policy", "mapping", "hardware"),
    *("max_steps", "confirm", "eval_every", "console", "wandb"),
)
_SHOWN = {"partner": "with"}


def start(plan: TrainingPlan, name: str, given: set[str], report: bool) -> bool:
    """Trains in a new run directory.

    Args:
        plan: what to do; its settings are those of the recipe and of the policy.
        name: of the run; empty: task and time.
        given: options of the command line that the person gave.
        report: draw the losses at the end.

    Returns:
        Whether the evaluation reached the goal.

    Raises:
        UsageError: an option has no meaning here, or a setting is none.
        CommandError: the task has no cameras, or the graph failed.
        EncoderError, DataError, SegmentError: the demonstrations cannot be learned from.
        Interrupted: a person pressed Ctrl-C.
    """
    recipe = _checked(plan, given)
    root = runs.runs_root()
    run = runs.create_run(root, name) if name else runs.begin_run(root, plan.task)
    runs.write_atomically(run.learning_file, yaml.safe_dump(recipe_tree(recipe), sort_keys=False))
    write_run_config(run, plan)
    try:
        return _train(run, plan, recipe, report)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {run.path} has no policy yet, begin anew") from None


def _checked(plan: TrainingPlan, given: set[str]) -> ActRecipe:
    check_task(plan.task)
    check_teleop(plan.teleop, plan.rtf)
    person_settings(plan.person)
    for option in _REFUSED:
        if option in given:
            written = f"--{_SHOWN.get(option, option).replace('_', '-')}"
            raise UsageError(f"{written} has no meaning with --learning act, which learns of demonstrations alone")
    if not get_task(plan.task).cameras:
        raise UsageError(f"--learning act: {plan.task} has no cameras, and ACT looks at pictures")
    if not plan.demo_file and not plan.demos:
        raise UsageError("--learning act learns of demonstrations: --demos of at least 1, or --demo-file")
    if plan.demo_file:
        read_picture_episodes([Path(plan.demo_file)])  # before anything is made
    recipe = read_recipe(plan.settings)
    encoder_of(recipe, get_task(plan.task))  # before a person gives demonstrations in vain
    return recipe


def _train(run: Run, plan: TrainingPlan, recipe: ActRecipe, report: bool) -> bool:
    console, began = Console(), time.monotonic()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    file = Path(plan.demo_file) if plan.demo_file else run.path / "demonstrations.serl"
    if not plan.demo_file:
        _record(run, plan, file)
    with RunLog(run.path) as log:

        def told(epoch: int, losses: Mapping[str, float]) -> None:
            log.write(_NODE, epoch + 1, {f"{_NODE}/{name}": value for name, value in losses.items()})

        encoder = encoder_of(recipe, get_task(plan.task))
        checkpoint = fit(read_picture_episodes([file]), recipe, plan.seed, say, told, encoder=encoder)
        directory = act_directory(run)
        write_directory(directory, checkpoint)
        trained = time.monotonic() - began
        if report:
            _draw(run, plan)
        found = run_imported(
            plan.task,
            f"act:{directory}",
            None,
            console,
            episodes=plan.eval_episodes,
            seed=EVALUATION_SEED,
            rtf=plan.rtf,
            viewer=plan.viewer,
        )
        numbers = ("success_rate", "interval_low", "interval_high", "episodes")
        log.write("actor", recipe.epochs, {f"eval/{name}": float(getattr(found, name)) for name in numbers})
    reached = bool(found.success_rate >= plan.goal)
    runs.write_result(run, _result(plan, found, reached, trained, time.monotonic() - began))
    say(
        f"{directory}: {found.successes} of {found.episodes} episodes succeed: {found.success_rate:.1%}, 95 % interval "
        f"{found.interval_low:.1%} to {found.interval_high:.1%} (Wilson)"
    )
    say(f"go on: ./serl train {plan.task} --from-policy act:{directory}; LeRobot loads {directory}")
    return reached


def _record(run: Run, plan: TrainingPlan, file: Path) -> None:
    try:
        record(
            plan.task,
            file,
            episodes=plan.demos,
            pictures="jpeg",
            seed=plan.seed,
            teleop=plan.teleop,
            rtf=plan.rtf,
            viewer=plan.viewer,
            force=False,
        )
    except DomainTakenError as error:
        raise CommandError(f"{error}; {run.path} is empty and can be deleted") from error


def _result(plan: TrainingPlan, found: Any, reached: bool, trained: float, wall: float) -> dict[str, Any]:
    return {
        "task": plan.task,
        "seed": plan.seed,
        "success": reached,
        "termination_reason": "trained",
        "env_steps": 0,
        "env_steps_to_goal": 0,
        "success_rate": found.success_rate,
        "judged_by": plan.reward,
        "wall_seconds": wall,
        "training_seconds": trained,
        "resumed": False,
        "system": describe(),
    }


def _draw(run: Run, plan: TrainingPlan) -> None:
    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
    panel = figure.subplots()
    for name, series in read_metrics(run.path).items():
        panel.plot(series.env_steps, series.value, label=name)
    panel.set(xlabel="epoch", yscale="log", title=f"ACT on {plan.task}, seed {plan.seed} ({run.name})")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(run.curve_file, dpi=110)
