# SPDX-License-Identifier: Apache-2.0
"""``./serl train --wandb PROJECT``: starts what follows a run, and ends it. What fails there is told, and no more."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serl_launch.processes.events import describe_code
from serl_launch.runs import Run

from serl_cli.report.wandb_follower import ARTIFACTS

LOG_FILE = "wandb.log"
PATIENCE = 120.0  # [s] for what is still to be sent when everything else is done


class WandbSink:
    """One process for each run, beside the training."""

    def __init__(self, runs: Sequence[Run], project: str, group: str, say: Callable[[str], None]) -> None:
        """Start them.

        Args:
            runs: each with its own metrics.
            project: of Weights & Biases.
            group: name that they share; empty: none.
            say: shows a person a line.
        """
        self._say = say
        self._followers: list[tuple[Run, subprocess.Popen[bytes]]] = []
        for run in runs:
            try:
                self._followers.append((run, _start(run, project, group)))
            except OSError as error:
                say(f"--wandb {project}: {error}; it goes on without")

    @property
    def running(self) -> bool:
        """Whether one of them still runs."""
        return any(follower.poll() is None for _, follower in self._followers)

    def send_files(self) -> None:
        """Have the files of the runs sent, as they are now."""
        for _, follower in self._followers:
            if follower.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # it has ended, which `close` tells
                    follower.stdin.write(ARTIFACTS)
                    follower.stdin.flush()

    def close(self, patience: float = PATIENCE) -> None:
        """End them, and say what could not be sent.

        Args:
            patience: how long to wait for all together [s].
        """
        for _, follower in self._followers:
            if follower.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    follower.stdin.close()
        deadline = time.monotonic() + patience
        for run, follower in self._followers:
            log = run.log_dir / LOG_FILE
            try:
                status = follower.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(follower.pid, signal.SIGKILL)
                follower.wait()
                line = f"W&B has not everything of {run.name} after {patience:g} s; the run has."
                self._say(f"{line} `wandb sync` sends what is in {run.path / 'wandb'}; log: {log}")
                continue
            if status:
                why = describe_code(status) if status < 0 else _last_line(log)
                self._say(
                    f"W&B has not everything of {run.name}; the run has: ./serl train --resume with --wandb sends it. "
                    f"Log: {log}: {why}"
                )


def _start(run: Run, project: str, group: str) -> "subprocess.Popen[bytes]":
    folder = str(run.path.absolute())
    run.log_dir.mkdir(parents=True, exist_ok=True)
    with (run.log_dir / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "serl_cli.report.wandb_follower", folder, project, group],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the training, at whose end this one ends
        )


@contextlib.contextmanager
def following(runs: Sequence[Run], project: str, group: str, say: Callable[[str], None]) -> Iterator[WandbSink | None]:
    """Follow runs while the body goes on; nothing where no project is named.

    Args:
        runs: each with its own metrics.
        project: of Weights & Biases; empty: none.
        group: name that they share; empty: none.
        say: shows a person a line.
    """
    if not project:
        yield None
        return
    sink = WandbSink(runs, project, group, say)
    try:
        yield sink
    finally:
        sink.close()


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as error:
        return str(error)
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it says nothing")
