# SPDX-License-Identifier: Apache-2.0
"""Makes what people look at after a run, and says where everything is."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_training.learner.run_log import METRICS_FILE, TENSORBOARD_DIR, RunLogError, read_metrics

from serl_cli.training_plan import TrainingPlan


def make(run: Run, plan: TrainingPlan, console: Console) -> None:
    """Draws the learning curve and films the policy. A run is not lost because one of them cannot be made."""
    from serl_cli.report.curve import plot_learning_curve
    from serl_cli.report.video import film_policy

    with console.status("drawing the learning curve"):
        try:
            title = f"{plan.task}, seed {plan.seed} ({run.name})"
            plot_learning_curve(read_metrics(run.path), run.curve_file, title=title, goal=plan.goal)
        except (CommandError, RunLogError) as error:
            console.print(f"no learning curve: {error}", style="yellow", soft_wrap=True)
    with console.status("filming the policy"):
        try:
            film_policy(run, plan, run.video_file)
        except CommandError as error:
            console.print(f"no video: {error}", style="yellow", soft_wrap=True)


def show(run: Run, console: Console, members: Sequence[Run] = ()) -> None:
    """Prints what there is and where, a line each; of two tasks in the folders `members` of each, too."""
    files = [
        ("configuration", run.config_file),
        ("result", run.result_file),
        *((f"all of {member.name}", member.path) for member in members),
        ("metrics", run.path / METRICS_FILE),
        ("TensorBoard", run.path / TENSORBOARD_DIR),
        ("learning curve", run.curve_file),
        ("video of the policy", run.video_file),
        ("checkpoints", run.checkpoints),
        ("logs", run.log_dir),
    ]
    lines = [(what, str(path)) for what, path in files if path.exists()]
    lines += [("prior data", mounted) for mounted in _priors(run)]
    width = max(len(what) for what, _ in lines) if lines else 0
    for what, text in lines:  # a narrow terminal breaks them itself, so that what is copied is whole
        console.print(Text(f"{what:{width}}  {text}"), soft_wrap=True)
    console.print(
        f"go on: ./serl eval {run.name}, ./serl train --resume {run.name}", style="dim", highlight=False, soft_wrap=True
    )


def _priors(run: Run) -> list[str]:
    """Earlier runs that it has drawn from, in words."""
    from serl_rl.replay.prior import PriorError, describe_priors

    try:
        return describe_priors(run.path)
    except PriorError as error:
        return [str(error)]
