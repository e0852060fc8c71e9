# SPDX-License-Identifier: Apache-2.0
"""A run for Weights & Biases: follows the run's metrics.csv from a process of its own, which no training waits for.

``python -m serl_cli.report.wandb_follower RUN_FOLDER PROJECT GROUP``: a line `ARTIFACTS` on the standard input sends
the run's files, the end of the input ends it. How far it has come is in the run's ``wandb.json``, where the next one
goes on.
"""

import json
import os
import select
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes
from serl_config.optional import optional_module
from serl_config.strict_json import JsonError, parse_json
from serl_config.strict_yaml import YamlError, parse_yaml
from serl_launch.errors import CommandError
from serl_launch.runs import Run, read_config
from serl_training.learner.run_log import RunLogError, entries_after

STATE_FILE: Final = "wandb.json"
ARTIFACTS: Final = b"artifacts\n"
EXTRA: Final = "wandb"
PERIOD: Final = 1.0  # [s] between two looks at the metrics
ALIASES: Final = {
    "eval/success_rate": "success_rate",
    "train/intervention_rate": "intervention_rate",
    "learner/critic_loss": "critic_loss",
    "learner/actor_loss": "actor_loss",
}
"""Names that dashboards of other stacks have for the same numbers; both are sent."""


def named(env_steps: int, values: Mapping[str, float]) -> dict[str, float]:
    """The numbers under our names and under those of `ALIASES`, with the steps that they are drawn over."""
    return {**values, **{ALIASES[name]: value for name, value in values.items() if name in ALIASES}} | {
        "env_steps": env_steps
    }


class Progress:
    """What has been sent of a run to which project, kept in the run's folder."""

    def __init__(self, run: Run, project: str) -> None:
        """Continue, or begin where there is nothing yet or the project is another one.

        Raises:
            CommandError: the file cannot be read or is something else.
        """
        self._path = run.path / STATE_FILE
        self.project, self.id, self.position = project, uuid.uuid4().hex[:12], 0
        if not self._path.exists():
            return
        try:
            match parse_json(read_bytes(self._path, 4096)):
                case {"project": str(before), "id": str(known), "position": int(position)} if position >= 0:
                    if before == project:
                        self.id, self.position = known, position
                case found:
                    raise JsonError(f"expected project, id and position, found {str(found)[:80]}")
        except (FileError, JsonError) as error:
            raise CommandError(f"{self._path}: {error}; move it away, and everything is sent again") from error

    def save(self) -> None:
        """Write it in one step."""
        state = {"project": self.project, "id": self.id, "position": self.position}
        write_whole(self._path, json.dumps(state).encode())


def follow(run: Run, project: str, group: str, commands: int) -> None:
    """Send what is in the metrics and what is added to them, until the input ends.

    Args:
        run: whose folder has a configuration.
        project: of Weights & Biases.
        group: name that runs of one training share; empty: none.
        commands: file descriptor with lines as `ARTIFACTS`.

    Raises:
        CommandError: wandb is not installed, or a file of the run cannot be read.
        OSError: the progress cannot be written.
    """
    wandb = optional_module("wandb", extra=EXTRA, needed_by="--wandb", error=CommandError)
    progress = Progress(run, project)
    settings = wandb.Settings(console="off", disable_git=True, save_code=False)
    with wandb.init(
        project=project, name=run.name, group=group or None, id=progress.id, resume="allow", dir=str(run.path),
        config=_configuration(run), settings=settings,
    ) as session:  # fmt: skip
        session.define_metric("env_steps")
        session.define_metric("*", step_metric="env_steps")
        progress.save()
        goes_on = True
        while goes_on:
            asked = b""
            if select.select([commands], [], [], PERIOD)[0]:
                asked = os.read(commands, 4096)
                goes_on = bool(asked)
            _send(run, session, progress)
            if ARTIFACTS in asked:
                _send_files(run, wandb, session)
    progress.save()  # wandb keeps in memory what it was given: who is killed before sends it again, and loses nothing


def _send(run: Run, session: Any, progress: Progress) -> None:
    while True:
        try:
            entries, position = entries_after(run.path, progress.position)
        except RunLogError as error:
            raise CommandError(str(error)) from error
        for entry in entries:
            session.log(named(entry.env_steps, entry.values))
        if position == progress.position:
            return
        progress.position = position


def _send_files(run: Run, wandb: Any, session: Any) -> None:
    """Send configuration, curve, film and checkpoints, each as far as it is there."""
    parts = {
        "configuration": (run.config_file, run.learning_file, run.result_file),
        "learning_curve": (run.curve_file,),
        "film": (run.video_file,),
        "checkpoint": (run.checkpoints,),
    }
    for kind, paths in parts.items():
        artifact = wandb.Artifact(f"{run.name}-{kind}", type=kind)
        there = [path for path in paths if path.exists()]
        for path in there:
            if path.is_dir():
                artifact.add_dir(str(path))
            else:
                artifact.add_file(str(path))
        if there:
            session.log_artifact(artifact)


def _configuration(run: Run) -> dict[str, Any]:
    try:
        learning = parse_yaml(read_bytes(run.learning_file, 2**20).decode(), str(run.learning_file))
    except (FileError, UnicodeDecodeError, YamlError) as error:
        raise CommandError(f"{run.learning_file}: {error}") from error
    return {**read_config(run), "learning": learning}


def main(arguments: list[str]) -> int:
    """Return the exit status; what went wrong is one line at the end of the standard error."""
    folder, project, group = arguments
    try:
        follow(Run(Path(folder)), project, group, sys.stdin.fileno())
    except (CommandError, OSError, yaml.YAMLError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
