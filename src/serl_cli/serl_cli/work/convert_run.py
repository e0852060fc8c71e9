# SPDX-License-Identifier: Apache-2.0
"""A run goes on with another backend or other devices: its checkpoints are the same files, so only settings change."""

from collections.abc import Mapping
from typing import Any

import yaml
from serl_config.schema import ConfigError, build, read_yaml
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_rl.backends import BackendError, check_backend, check_devices
from serl_rl.checkpoint import CheckpointError, latest
from serl_rl.config import LearningConfig
from serl_rl.devices import DeviceError
from serl_training.learner.trainer import CHECKPOINTS
from serl_training.link.contract import load_learning

from serl_cli.run_config import check_unchanged, members, read_run_config, write_run_config
from serl_launch import runs
from serl_tasks import get_task

CONVERTED = ("backend", "devices", "split")
"""Learning settings of what computes; none of them is in what it has learned."""


def convert(run: Run, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Let a run go on with another backend, or on other devices; returns what its settings were.

    Args:
        run: that nobody trains now. Where two tasks were learned by turns, both are converted.
        changes: values of some of `CONVERTED`.

    Raises:
        CommandError: the backend is not installed, there are fewer devices, the run is trained just now, its settings
            were changed, or none of its checkpoints can be read; nothing is changed then.
    """
    plan = read_run_config(run).plan
    try:
        for member, own in members(run, plan):
            check_unchanged(member, own, apart_from=CONVERTED)  # as a conversion leaves it that was killed
            latest(member.path / CHECKPOINTS)
        settings = {**read_yaml(run.learning_file)[0], **changes}
        config = build(LearningConfig, settings, f"{run.learning_file}, converted")
        check_backend(config.backend)
        check_devices(config)
        before = load_learning(str(run.learning_file), get_task(plan.task))
    except (BackendError, CheckpointError, ConfigError, DeviceError) as error:
        raise CommandError(str(error)) from error
    for each, own in {run.path: (run, plan), **{each.path: (each, own) for each, own in members(run, plan)}}.values():
        settings = {**read_yaml(each.learning_file)[0], **changes}
        runs.write_atomically(each.learning_file, yaml.safe_dump(settings, sort_keys=False))
        write_run_config(each, own)
    return {name: getattr(before, name) for name in changes}
