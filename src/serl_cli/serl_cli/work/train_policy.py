# SPDX-License-Identifier: Apache-2.0
"""A training from the command line: run directory, graph, progress, result, report."""

import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import yaml
from rich.console import Console
from serl_config.schema import read_yaml
from serl_launch.errors import CommandError, DomainTakenError, Interrupted
from serl_launch.graph_session import GraphSession, around_arm, simulated
from serl_launch.runs import Run
from serl_launch.system import describe
from serl_rl.imported.initial import write_initial
from serl_training.learner.run_log import RunLogError

from serl_cli.names import check_task
from serl_cli.prior_runs import check_prior
from serl_cli.report import autonomy, summary, turns
from serl_cli.report.progress import TrainingStatus, make_display
from serl_cli.report.wandb_sink import following
from serl_cli.run_config import check_unchanged, members, read_run_config, task_changes, write_run_config
from serl_cli.training_plan import (
    TrainingPlan,
    check_actors,
    check_arms,
    check_hardware,
    check_initial,
    check_installed,
    check_partner,
    check_policies,
    check_policy,
    check_policy_unchanged,
    check_reward,
    check_teleop,
    continued,
    is_act,
    person_settings,
    resolve_learning,
)
from serl_launch import runs
from serl_tasks import get_task

WAITING_TIMEOUT = 180.0  # [s] until the learner is ready: it compiles for half a minute on a slow machine


def start(plan: TrainingPlan, name: str, report: bool, *, page: bool = False) -> bool:
    """Trains in a new run directory.

    Args:
        plan: what to do.
        name: of the run; empty: task and time.
        report: draw and film at the end.
        page: serve the operator's console meanwhile.

    Returns:
        Whether the goal was reached.

    Raises:
        CommandError: the plan cannot be followed, or the graph failed.
        Interrupted: a person pressed Ctrl-C.
    """
    check_task(plan.task)
    check_partner(plan)
    check_arms(plan.task, teleop=plan.teleop, hardware=plan.hardware, page=page)
    check_actors(plan, page=page)
    plan = check_hardware(plan)
    check_teleop(plan.teleop, plan.rtf)
    person_settings(plan.person)
    plan = replace(plan, learning=plan.learning or get_task(plan.task).learning)
    learning = resolve_learning(plan.learning, plan.settings)
    check_installed(plan, learning)
    check_policies(plan, learning)
    initial = check_initial(plan, learning)
    plan = check_policy(plan, learning)
    check_reward(plan)
    root = runs.runs_root()
    check_prior(plan, learning, root / (name or "."))
    run = runs.create_run(root, name) if name else runs.begin_run(root, plan.task)
    runs.write_atomically(run.learning_file, yaml.safe_dump(learning, sort_keys=False))
    if initial is not None:
        write_initial(run.path, initial)
    if plan.classifier:
        shutil.copyfile(plan.classifier, run.classifier_file)  # the run goes on with it, whatever becomes of the other
    write_run_config(run, plan)
    if plan.partner:
        for member, own in members(run, plan):
            member.path.mkdir()
            shutil.copyfile(run.learning_file, member.learning_file)
            write_run_config(member, own)
    try:
        return _train(run, plan, report, resumed=False, page=page)
    except DomainTakenError:
        shutil.rmtree(run.path)  # so that the name is free for another try
        raise


def resume(reference: str, wanted: TrainingPlan, given: set[str], report: bool, *, page: bool = False) -> bool:
    """Continues a run; as ``start`` otherwise.

    Args:
        reference: name or folder of the run.
        wanted: as the command line says.
        given: options of the command line that the person gave; the others are as they were.
        report: draw and film at the end.
        page: serve the operator's console meanwhile.
    """
    run = runs.find_run(runs.runs_root(), reference)
    before = read_run_config(run)
    if is_act(before.plan):
        raise CommandError(f"{run.path} is an ACT policy of its demonstrations, which is trained in one go: begin anew")
    plan = continued(before.plan, wanted, given)
    check_partner(plan)
    check_arms(plan.task, teleop=plan.teleop, hardware=plan.hardware, page=page)
    check_actors(plan, page=page)
    check_teleop(plan.teleop, plan.rtf)
    check_unchanged(run, plan)
    check_policy_unchanged(plan)
    learning = read_yaml(run.learning_file)[0]
    check_installed(plan, learning)
    check_prior(plan, learning, run.path)
    changed = plan != before.plan
    for member, own in members(run, plan):
        if plan.partner:
            check_unchanged(member, own)
        for change in task_changes(read_run_config(member)):
            changed = True
            say = f"the task {own.task} has changed since the run was begun: {change}"
            Console(stderr=True).print(say, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if changed:
        for each, own in [(run, plan), *(members(run, plan) if plan.partner else ())]:
            write_run_config(each, own)
    return _train(run, plan, report, resumed=True, page=page)


def _train(run: Run, plan: TrainingPlan, report: bool, *, resumed: bool, page: bool) -> bool:
    console = Console()

    def note(line: str) -> None:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    learners = [member for member, _ in members(run, plan)]
    with following(learners, plan.wandb, run.name if plan.partner else "", note) as sink:
        reached = _train_and_report(run, plan, report, console, resumed=resumed, page=page)
        if sink is not None:
            sink.send_files()
    return reached


def _train_and_report(
    run: Run, plan: TrainingPlan, report: bool, console: Console, *, resumed: bool, page: bool
) -> bool:
    started = time.monotonic()
    try:
        with _graph(run, plan, console) as graph:
            console.print(f"run {run.path}, ROS_DOMAIN_ID {graph.domain_id}", highlight=False, soft_wrap=True)
            if plan.actors > 1:
                text = f"another arm joins by {_joining(run, plan, graph.domain_id)}"
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            if plan.hardware != "simulated":
                graph.switch_on()
            with _page(plan, console) if page else nullcontext():
                result = _send_goal(graph, plan, console, helped=page or _is_helped(plan))
            wall_seconds = time.monotonic() - started
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with ./serl train --resume {run.name}") from None
    if result.termination_reason not in ("goal", "max_env_steps"):
        raise CommandError(f"training ended early ({result.termination_reason}): {result.message}; logs: {run.log_dir}")
    alone = {member.name: _autonomy(member, console) for member, _ in members(run, plan)}
    both = {"autonomy": alone if plan.partner else alone[run.name]}
    runs.write_result(run, _result(plan, result, wall_seconds, resumed) | both)
    if graph.unfinished:
        raise CommandError(
            f"{graph.unfinished[0]} - the newest policy is not saved; the journal has everything that it was trained "
            f"on: go on with ./serl train --resume {run.name}"
        )
    if report:
        for member, own in members(run, plan):
            summary.make(member, own, console)
    if result.success:
        console.print(f"goal reached: {result.success_rate:.0%} after {result.env_steps_to_goal} env steps, ", end="")
        console.print(f"{wall_seconds:.1f} s", highlight=False, soft_wrap=True)
    else:
        console.print(
            f"goal not reached: {result.success_rate:.0%} after {result.env_steps} env steps; go on with "
            f"./serl train --resume {run.name} --max-steps {2 * plan.max_steps}",
            highlight=False,
            soft_wrap=True,
        )
    if plan.reward != "truth":
        console.print(
            f"that is what the {plan.reward} believed; ./serl eval {run.name} asks the truth",
            highlight=False,
            soft_wrap=True,
        )
    if plan.partner:
        console.print(turns.describe(result), highlight=False, soft_wrap=True)
    if page or _is_helped(plan):
        for name, numbers in alone.items():
            if numbers:
                of = f"{name}: " if plan.partner else ""
                console.print(of + autonomy.describe(numbers), markup=False, highlight=False, soft_wrap=True)
    summary.show(run, console, [member for member, _ in members(run, plan) if plan.partner])
    return bool(result.success)


def _graph(run: Run, plan: TrainingPlan, console: Console) -> GraphSession:
    common = {
        "learning": str(run.learning_file.absolute()),
        "teleop": plan.teleop,
        "interventions": str(plan.interventions).lower(),
        "person_settings": str(person_settings(plan.person)),
        "reward": plan.reward,
        "classifier": str(run.classifier_file.absolute()) if plan.classifier else "",
        "policy": plan.from_policy,
        "mapping": plan.mapping,
        "prior": ",".join(plan.prior),
    }
    if plan.hardware != "simulated":
        return around_arm(
            console,
            name=run.name,
            task=plan.task,
            seed=plan.seed,
            hardware=plan.hardware,
            run_dir=run.path,
            log_dir=run.log_dir,
            **common,
        )
    return simulated(
        console,
        name=run.name,
        task=plan.task,
        seed=plan.seed,
        rtf=plan.rtf,
        viewer=plan.viewer,
        run_dir=run.path,
        log_dir=run.log_dir,
        actors=plan.actors,
        partner=plan.partner,
        **common,
    )


def _joining(run: Run, plan: TrainingPlan, domain_id: int) -> str:
    """The command by which another simulated arm joins a fleet that trains."""
    arguments = {
        "arm": f"arm_{plan.actors}",
        "task": plan.task,
        "learning": str(run.learning_file.absolute()),
        "real_time_factor": f"{plan.rtf:g}",
        "interventions": str(plan.interventions).lower(),
        **({"arms": "two"} if get_task(plan.task).arms else {}),
    }
    words = shlex.join(f"{name}:={value}" for name, value in arguments.items())
    return f"ROS_DOMAIN_ID={domain_id} ./serl launch fleet_arm.launch.xml {words}"


@contextmanager
def _page(plan: TrainingPlan, console: Console) -> Iterator[None]:
    """Serves the operator's console of the graph that has been started."""
    from serl_launch.clients import console_node

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with console_node.serving(plan.task, "", network=False, port=0, say=say, quiet=True):
        yield


def _is_helped(plan: TrainingPlan) -> bool:
    """Whether a person of the graph may lead in training: the scripted one who intervenes, or one with a device."""
    return plan.interventions if plan.teleop == "scripted" else plan.teleop != "none"


def _send_goal(graph: GraphSession, plan: TrainingPlan, console: Console, *, helped: bool) -> Any:
    """Sends the goal of the `train` action and shows what happens until its result is there."""
    from serl_interfaces.action import Train

    status = TrainingStatus(plan.max_steps, plan.goal, helped=helped)
    graph.on_metrics(lambda node, env_steps, values: status.update_metrics(env_steps, values, node))
    goal = Train.Goal(
        demonstrations=plan.demos,
        demonstration_file=plan.demo_file,
        max_env_steps=plan.max_steps,
        eval_every=plan.eval_every,
        eval_episodes=plan.eval_episodes,
        success_goal=plan.goal,
        confirmations=plan.confirm,
        seed=plan.seed,
    )
    with make_display(status, console) as display:
        waiting_since = time.monotonic()

        def tick() -> None:
            display.update()
            if status.stage != "waiting":
                return
            if time.monotonic() - waiting_since > WAITING_TIMEOUT:
                awaited = status.waiting.removeprefix("waiting for ")
                raise graph.missing(awaited or "learner/insert and learner/policy of the learner", WAITING_TIMEOUT)

        return graph.run_action(
            Train,
            "train",
            goal,
            executable="actor" if plan.actors == 1 else "fleet",
            on_feedback=lambda feedback: status.update_feedback(feedback.stage, feedback.env_steps, feedback.waiting),
            tick=tick,
        )


def _autonomy(run: Run, console: Console) -> dict[str, float]:
    """How far the policy got alone. A result is not lost because the metrics cannot be read."""
    try:
        return autonomy.numbers(run)
    except RunLogError as error:
        console.print(f"no autonomy: {error}", style="yellow", soft_wrap=True)
        return {}


def _result(plan: TrainingPlan, result: Any, wall_seconds: float, resumed: bool) -> dict[str, Any]:
    both = {"partner": plan.partner, **turns.numbers(result)} if plan.partner else {}
    return both | {
        "task": plan.task,
        "seed": plan.seed,
        "actors": plan.actors,
        "success": result.success,
        "termination_reason": result.termination_reason,
        "env_steps": result.env_steps,
        "env_steps_to_goal": result.env_steps_to_goal,
        "success_rate": result.success_rate,
        "judged_by": plan.reward,
        "wall_seconds": wall_seconds,  # from the start of the graph
        "training_seconds": result.wall_seconds,  # from the goal's acceptance
        "resumed": resumed,
        "system": describe(),
    }
