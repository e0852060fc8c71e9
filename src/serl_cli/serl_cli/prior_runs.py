# SPDX-License-Identifier: Apache-2.0
"""Earlier runs whose data a training draws from, looked at before anything is started."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serl_config.schema import build
from serl_launch.errors import UsageError
from serl_rl.config import LearningConfig
from serl_rl.encoders.file import EncoderError
from serl_rl.replay.prior import PriorError, PriorRun, check_priors, read_priors, split_prior
from serl_rl.spec import DataError
from serl_training.link.contract import find_encoder, transition_spec

from serl_cli.training_plan import TrainingPlan
from serl_launch import runs
from serl_tasks import get_task


def named_priors(texts: Sequence[str]) -> tuple[str, ...]:
    """RUN:WEIGHT with absolute paths, for runs that are named as people name them.

    Raises:
        UsageError: there is no such run, or the weight is none.
    """
    named = []
    for text in texts:
        try:
            name, weight = split_prior(text)
        except PriorError as error:
            raise UsageError(str(error)) from error
        if Path(name).is_file():
            raise UsageError(f"--prior {name}: expected the folder of a run, found a file")
        named.append(str(PriorRun(runs.find_run(runs.runs_root(), name).path.resolve(), weight)))
    return tuple(named)


def check_prior(plan: TrainingPlan, learning: dict[str, Any], run_dir: Path) -> None:
    """Refuses prior data that a training cannot draw from; all of them are read for that.

    Args:
        plan: names the runs.
        learning: the learning configuration, as of `serl_cli.training_plan.resolve_learning`.
        run_dir: folder of the training, which knows what it has mounted before, if it exists.

    Raises:
        UsageError: says which run, and why.
        ConfigError: the file of the task or of its robot cannot be used.
    """
    if not plan.prior:
        return
    if plan.partner:
        raise UsageError("--prior is for one task: two that take turns have different data")
    task, config = get_task(plan.task), build(LearningConfig, learning, "--prior")
    try:
        spec = transition_spec(task, config, find_encoder(task, config, simulated=plan.hardware != "real"))
        check_priors(read_priors(plan.prior, run_dir), spec, run_dir)
    except (PriorError, DataError, EncoderError) as error:
        raise UsageError(str(error)) from error
