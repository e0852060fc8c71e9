# SPDX-License-Identifier: Apache-2.0
"""A run goes on with another backend: its checkpoints are the same files for both, so that is a change of a setting."""

from typing import Literal

import yaml
from serl_config.schema import ConfigError, read_yaml
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_rl.backends import BackendError, check_torch
from serl_rl.checkpoint import CheckpointError, latest
from serl_training.learner.trainer import CHECKPOINTS
from serl_training.link.contract import load_learning

from serl_cli.run_config import check_unchanged, members, read_run_config, write_run_config
from serl_launch import runs
from serl_tasks import get_task

Backend = Literal["jax", "torch"]


def convert(run: Run, backend: Backend) -> Backend:
    """Let a run go on with a backend; returns the one that it had.

    Args:
        run: that nobody trains now. Where two tasks were learned by turns, both are converted.
        backend: that computes from now on.

    Raises:
        CommandError: the backend is not installed, the run is trained just now, its settings were changed, or none of
            its checkpoints can be read; nothing is changed then.
    """
    plan = read_run_config(run).plan
    try:
        if backend == "torch":
            check_torch()
        for member, own in members(run, plan):
            check_unchanged(member, own, apart_from="backend")  # as a conversion leaves it that was killed
            latest(member.path / CHECKPOINTS)
        before = load_learning(str(run.learning_file), get_task(plan.task)).backend
    except (BackendError, CheckpointError, ConfigError) as error:
        raise CommandError(str(error)) from error
    for each, own in {run.path: (run, plan), **{each.path: (each, own) for each, own in members(run, plan)}}.values():
        settings = {**read_yaml(each.learning_file)[0], "backend": backend}
        runs.write_atomically(each.learning_file, yaml.safe_dump(settings, sort_keys=False))
        write_run_config(each, own)
    return before
