# SPDX-License-Identifier: Apache-2.0
"""An evaluation of a finished run, from the command line."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from serl_launch.errors import CommandError, Interrupted, UsageError
from serl_launch.graph_session import GraphSession, scratch_folder, simulated
from serl_launch.runs import Run
from serl_rl.config import LearningConfig
from serl_rl.imported.opening import PolicyError
from serl_rl.policy.reference import read_reference
from serl_rl.spec import DataError
from serl_training.link.contract import check_imported

from serl_cli.names import check_task
from serl_cli.report import turns
from serl_cli.run_config import act_directory, members, read_run_config, tasks_of_run
from serl_cli.training_plan import TrainingPlan, check_partner, is_act
from serl_launch import runs
from serl_rl import checkpoint
from serl_tasks import get_task


def evaluate(
    reference: str, *, episodes: int, seed: int, rtf: float, viewer: bool, video: bool, json_output: bool
) -> None:
    """Runs the newest policy of a run on new starts and prints how often it succeeds.

    Args:
        reference: name or folder of the run.
        episodes: to run.
        seed: of their starts.
        rtf: real-time factor; 0: lockstep.
        viewer: whether MuJoCo's window opens.
        video: whether to film some episodes.
        json_output: print JSON and nothing else on stdout.

    Raises:
        CommandError: the run has no policy, or the graph failed.
        Interrupted: a person pressed Ctrl-C.
    """
    run = runs.find_run(runs.runs_root(), reference)
    config = read_run_config(run)
    if is_act(config.plan):
        if video:
            raise UsageError(f"--video: {run.name} is an ACT policy, which is not filmed; leave it out")
        policy = f"act:{act_directory(run)}"
        evaluate_imported(
            config.plan.task,
            policy,
            None,
            episodes=episodes,
            seed=seed,
            rtf=rtf,
            viewer=viewer,
            json_output=json_output,
        )
        return
    newest = {}
    for member, own in members(run, config.plan):
        found = checkpoint.latest(member.checkpoints)
        if found is None:
            raise CommandError(f"{member.path} has no checkpoint: train first")
        newest[own.task] = found
    console = Console(file=sys.stderr if json_output else sys.stdout)
    with tasks_of_run(run, config.plan) as notes:
        for note in notes:
            console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        check_partner(config.plan)
        try:
            result = _evaluate(run, config.plan, newest, episodes, seed, rtf, viewer, console)
        except KeyboardInterrupt:
            raise Interrupted("evaluation interrupted; the run is as it was") from None
        if not result.success:
            raise CommandError(f"evaluation ended early ({result.termination_reason}): {result.message}")
        _print(run.name, config.plan.partner, result, console, json_output)
        if video:
            from serl_cli.report.video import film_policy

            for member, own in members(run, config.plan):
                film_policy(member, own, member.video_file)
                console.print(f"video: {member.video_file}", highlight=False, soft_wrap=True)


def evaluate_imported(
    task: str,
    policy: str,
    mapping: Path | None,
    *,
    episodes: int,
    seed: int,
    rtf: float,
    viewer: bool,
    json_output: bool,
) -> None:
    """Runs a policy that was made before on starts of a task and prints how often it succeeds.

    Args:
        task: its name.
        policy: `KIND:PATH`.
        mapping: its mapping file; None: that in its folder, or none.
        episodes: to run.
        seed: of their starts.
        rtf: real-time factor; 0: lockstep.
        viewer: whether MuJoCo's window opens.
        json_output: print JSON and nothing else on stdout.

    Raises:
        UsageError: there is no such task, or no such policy, or none for this task.
        CommandError: the graph failed.
        Interrupted: a person pressed Ctrl-C.
    """
    console = Console(file=sys.stderr if json_output else sys.stdout)
    result = run_imported(task, policy, mapping, console, episodes=episodes, seed=seed, rtf=rtf, viewer=viewer)
    _print(policy, "", result, console, json_output)


def run_imported(
    task: str,
    policy: str,
    mapping: Path | None,
    console: Console,
    *,
    episodes: int,
    seed: int,
    rtf: float = 0.0,
    viewer: bool = False,
) -> Any:
    """Result of the action `evaluate` of a graph in which a policy acts; arguments and errors of `evaluate_imported`.

    `console` shows how it goes.
    """
    check_task(task)
    try:
        reference = read_reference(policy)
        check_imported(policy, str(mapping or ""), get_task(task), LearningConfig())
    except (DataError, PolicyError) as error:
        raise UsageError(f"--policy: {error}") from error
    try:
        with (
            scratch_folder("serl_eval_") as scratch,
            simulated(
                console,
                name=f"eval-{task}",
                task=task,
                seed=0,
                rtf=rtf,
                viewer=viewer,
                run_dir=scratch / "run",
                log_dir=scratch / "log",
                learner="false",
                policy=str(reference),
                mapping=str(mapping.absolute()) if mapping else "",
            ) as graph,
        ):
            result = _run_episodes(graph, console, episodes, seed)
    except KeyboardInterrupt:
        raise Interrupted("evaluation interrupted") from None
    if not result.success:
        raise CommandError(f"evaluation ended early ({result.termination_reason}): {result.message}")
    return result


def _run_episodes(graph: GraphSession, console: Console, episodes: int, seed: int) -> Any:
    """Result of the action `evaluate` of a graph."""
    from serl_interfaces.action import Evaluate

    with console.status("starting the graph") as status:
        return graph.run_action(
            Evaluate,
            "evaluate",
            Evaluate.Goal(episodes=episodes, seed=seed, stop_below=0.0),
            executable="actor",
            on_feedback=lambda feedback: status.update(
                feedback.waiting or f"{feedback.episodes}/{episodes} episodes, {feedback.successes} successes"
            ),
        )


def _evaluate(
    run: Run,
    plan: TrainingPlan,
    newest: Mapping[str, Path],
    episodes: int,
    seed: int,
    rtf: float,
    viewer: bool,
    console: Console,
) -> Any:
    """Result of the action `evaluate`, of a graph that is started for it."""
    with (
        scratch_folder("serl_eval_") as scratch,
        simulated(
            console,
            name=f"eval-{run.name}",
            task=plan.task,
            partner=plan.partner,
            seed=plan.seed,
            rtf=rtf,
            viewer=viewer,
            run_dir=_copy(newest, plan, scratch / "run"),
            log_dir=scratch / "log",
            learning=str(run.learning_file.absolute()),
            policy=plan.from_policy,
            mapping=plan.mapping,
        ) as graph,
    ):
        return _run_episodes(graph, console, episodes, seed)


def _copy(newest: Mapping[str, Path], plan: TrainingPlan, path: Path) -> Path:
    """A run directory with these checkpoints and nothing to train on: the run itself stays as it is."""
    for member, own in members(Run(path), plan):
        checkpoint.copy_elsewhere(newest[own.task], member.checkpoints)
    return path


def _print(name: str, partner: str, result: Any, console: Console, json_output: bool) -> None:
    if json_output:
        numbers = ("episodes", "successes", "success_rate", "interval_low", "interval_high", "mean_length", "discarded")
        both = turns.numbers(result) if partner else {}
        print(json.dumps({"run": name, **{number: getattr(result, number) for number in numbers}, **both}, indent=2))
        return
    console.print(
        f"{name}: {result.successes} of {result.episodes} episodes succeed: {result.success_rate:.1%}, "
        f"95 % interval {result.interval_low:.1%} to {result.interval_high:.1%} (Wilson), "
        f"{result.mean_length:.1f} steps on average",
        highlight=False,
        soft_wrap=True,
    )
    if result.discarded:
        console.print(
            f"{result.discarded} more were discarded by a person and run again: do not compare this with others",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    if partner:
        console.print(turns.describe(result), highlight=False, soft_wrap=True)
