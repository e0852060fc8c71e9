# SPDX-License-Identifier: Apache-2.0
"""Makes an ACT directory of what a policy does: it acts, ACT learns its successes, and the result is evaluated."""

from dataclasses import asdict, dataclass
from pathlib import Path

from serl_config.text import printable
from serl_launch.errors import CommandError
from serl_launch.runs import Run, find_run, runs_root, write_atomically
from serl_rl.checkpoint import CheckpointError
from serl_rl.encoders.file import EncoderError
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.file import open_act
from serl_rl.foreign.directories import check_new
from serl_rl.imported.opening import PolicyError
from serl_rl.policy.reference import KINDS, read_reference
from serl_rl.spec import DataError
from serl_rl.success_rate import wilson_interval

from serl_cli.names import check_task
from serl_cli.run_config import act_directory, read_run_config
from serl_cli.training_plan import TrainingPlan, is_act
from serl_cli.work.act.fitting import ActRecipe, Say, encoder_of, fit, write_directory
from serl_cli.work.act.rollouts import Acting, Rollouts, WatchedEnv, of_reference, of_run, roll_out, watched

FIRST_SEED = 3_000_000
"""Seed of the first start from which the policy acts; training, films and evaluations count from others."""
EVALUATION_SEED = 4_000_000
_MOST_ATTEMPTS = 4  # for each success that is wanted


@dataclass(frozen=True)
class Distillation:
    """What is wanted."""

    source: str
    """A run, or KIND:PATH."""
    task: str
    """Of KIND:PATH; of a run it is the run's."""
    out: Path
    """New directory."""
    mapping: Path | None
    """Mapping file of KIND:PATH."""
    episodes: int
    """Successes that are learned from."""
    noise: float
    """Standard deviation of what is added to the policy's actions in every second of them."""
    eval_episodes: int
    start: Path | None
    """ACT policy with whose weights and sizes it begins; None: new ones."""
    recipe: ActRecipe
    seed: int


def distill(wanted: Distillation, say: Say) -> float:
    """Write a directory that acts as a policy does, with its evaluation in README.md.

    Args:
        wanted: what to do.
        say: told how it goes, a line at a time.

    Returns:
        The share of episodes in which the new policy succeeds, in [0, 1].

    Raises:
        CommandError: there is no such run or policy, or it hardly ever succeeds.
        UsageError: there is no such task.
        DataError, ForeignError: what it did cannot be learned from, or the first policy is of another architecture.
        OSError: the directory cannot be written.
    """
    check_new(wanted.out)
    start = None if wanted.start is None else open_act(wanted.start)
    run, plan = _run(wanted)
    task = wanted.task if plan is None else plan.task
    check_task(task)
    world = watched(task)
    try:
        shown = _shown(wanted, run, plan, world)
        say(f"{wanted.source}: {len(shown.successes)} of {shown.episodes} episodes succeed, ACT learns from these")
        encoder = encoder_of(wanted.recipe, world.task) if start is None else None
        checkpoint = fit(
            shown.successes, wanted.recipe, wanted.seed, say, start=start, source=wanted.start, encoder=encoder
        )
        write_directory(wanted.out, checkpoint)
        own = of_reference(f"act:{wanted.out}", None, world)
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + wanted.eval_episodes)
        found = roll_out(own, world, seeds)
    except (CheckpointError, EncoderError, PolicyError) as error:
        raise CommandError(str(error)) from error
    finally:
        world.close()
    line = _judged(found)
    write_atomically(wanted.out / "README.md", _readme(wanted, task, checkpoint, shown, line))
    say(f"{wanted.out}: {line}")
    return found.rate


def _run(wanted: Distillation) -> tuple[Run | None, TrainingPlan | None]:
    if wanted.source.partition(":")[0] in KINDS:
        if not wanted.task:
            raise CommandError(f"{wanted.source}: of which task? Name it by --task")
        try:
            read_reference(wanted.source)
        except DataError as error:
            raise CommandError(str(error)) from error
        return None, None
    run = find_run(runs_root(), wanted.source)
    plan = read_run_config(run).plan
    if wanted.task and wanted.task != plan.task:
        raise CommandError(f"--task {wanted.task}: {run.name} is a run of {plan.task}; leave --task out")
    if plan.partner:
        raise CommandError(f"{run.name} learned two tasks: name the folder of one, {run.path / plan.task}")
    if is_act(plan):
        raise CommandError(f"{run.name} is an ACT policy already: {act_directory(run)}")
    return run, plan


def _shown(wanted: Distillation, run: Run | None, plan: TrainingPlan | None, world: WatchedEnv) -> Rollouts:
    acting: Acting
    if run is None or plan is None:
        acting = of_reference(wanted.source, wanted.mapping, world)
    else:
        acting = of_run(run, plan, world)
    seeds = range(FIRST_SEED, FIRST_SEED + _MOST_ATTEMPTS * wanted.episodes)
    shown = roll_out(acting, world, seeds, wanted.episodes, wanted.noise)
    if len(shown.successes) < wanted.episodes:
        raise CommandError(
            f"{wanted.source}: expected {wanted.episodes} successes in {shown.episodes} episodes, found "
            f"{len(shown.successes)}: improve it first, or ask for fewer --episodes"
        )
    return shown


def _judged(found: Rollouts) -> str:
    low, high = wilson_interval(len(found.successes), found.episodes)
    return (
        f"{len(found.successes)} of {found.episodes} episodes succeed: {found.rate:.1%}, 95 % interval {low:.1%} to "
        f"{high:.1%} (Wilson)"
    )


def _readme(wanted: Distillation, task: str, checkpoint: ActCheckpoint, shown: Rollouts, line: str) -> str:
    recipe = asdict(wanted.recipe)
    return f"""# ACT policy for {task}

Distilled from `{printable(wanted.source, 200)}`: {len(shown.successes)} successful episodes of
{shown.episodes}, noise {wanted.noise:g} in every second one. {recipe["epochs"]} epochs, batches of
{recipe["batch_size"]}, seed {wanted.seed}.

Evaluation in the simulated world of `{task}`, starts {EVALUATION_SEED} and on: {line}.

Inputs: {", ".join(checkpoint.config.input_features)}. Actions are those of the task, in [-1, 1]. LeRobot 0.4 and later
load this directory; `mapping.yaml` is for `./serl eval {task} --policy act:DIRECTORY`.
"""
