# SPDX-License-Identifier: Apache-2.0
"""The folder of a sweep: which trials it has, and what became of them. It is all that is kept, so any end is survived.

A trial is finished when its run has a result, failed when a reason is written down, begun when it has a run.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serl_launch.errors import CommandError
from serl_launch.runs import Run, read_json_object, write_atomically

from serl_cli.sweep.settings import Sweep, Trial

SWEEP_FILE = "sweep.json"
FAILURES, OUTPUT = "failures", "output"
_LARGEST = 2**24  # [bytes] of a file


@dataclass(frozen=True)
class SweepFolder:
    """A folder and the files that belong in it; each trial has its run directory there, under its own name."""

    path: Path

    def is_there(self) -> bool:
        """Whether a sweep has begun in it."""
        return (self.path / SWEEP_FILE).is_file()

    def run(self, trial: Trial) -> Run:
        """Run directory of a trial."""
        return Run(self.path / trial.name)

    def output(self, trial: Trial) -> Path:
        """What the commands of a trial print."""
        return self.path / OUTPUT / f"{trial.name}.txt"

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """Numbers of a finished trial, None where it is not.

        Raises:
            CommandError: the file is damaged.
        """
        return self._read(self.run(trial).result_file)

    def failure(self, trial: Trial) -> str:
        """Why a trial failed; empty where it did not."""
        found = self._read(self._failure(trial))
        return "" if found is None else str(found.get("reason", "without saying why"))

    def write_failure(self, trial: Trial, reason: str) -> None:
        """Keeps why a trial failed. Raises CommandError where that cannot be written."""
        write_atomically(self._failure(trial), json.dumps({"reason": reason}) + "\n")

    def forget_failure(self, trial: Trial) -> None:
        """Lets a failed trial be run again."""
        self._failure(trial).unlink(missing_ok=True)

    def is_begun(self, trial: Trial) -> bool:
        """Whether a trial has a run that `--resume` can continue; what has none is removed, as nothing is in it.

        Raises:
            CommandError: it has stored something, and the files that say how are missing.
        """
        run = self.run(trial)
        if run.config_file.is_file() and run.learning_file.is_file():
            return True
        if (run.path / "journal").exists():
            files = f"{run.config_file.name} and {run.learning_file.name}"
            raise CommandError(f"{run.path}: expected {files} beside its journal; copy them there, or move it away")
        shutil.rmtree(run.path, ignore_errors=True)
        return False

    @contextmanager
    def opened(self, sweep: Sweep) -> Iterator[list[str]]:
        """The folder for this process alone, with the trials of a sweep written down.

        Returns:
            What has changed since the last time, a line each.

        Raises:
            CommandError: it cannot be written, is the folder of something else, is used by another process, or has
                trials that were begun by other settings under the same name.
        """
        try:
            for folder in (self.path, self.path / FAILURES, self.path / OUTPUT):
                if folder == self.path and folder.is_dir() and not self._is_mine():
                    raise CommandError(
                        f"{folder} is not the folder of a sweep (it has no {SWEEP_FILE}): choose another --out"
                    )
                folder.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise CommandError(f"cannot use the folder {self.path}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(
                    f"another process runs the sweep in {self.path}: wait for it, or choose another --out"
                ) from None
            yield self._follow(sweep)

    def changes(self, sweep: Sweep) -> list[str]:
        """What has changed since the folder was written, a line each; nothing is written.

        Raises:
            CommandError: it is the folder of another sweep, or has trials that were begun by other settings.
        """
        before = self._read(self.path / SWEEP_FILE)
        if before is None:
            return []
        if before.get("name") != sweep.name or not isinstance(before.get("trials"), dict):
            raise CommandError(
                f"{self.path} is the folder of the sweep {before.get('name')!r}, not of {sweep.name!r}: "
                "choose another --out"
            )
        old, new = before["trials"], {trial.name: trial.definition() for trial in sweep.trials}
        other = [
            trial
            for trial in sweep.trials
            if old.get(trial.name, new[trial.name]) != new[trial.name] and self._has_anything(trial)
        ]
        if other:
            raise CommandError(
                f"the file has changed: {_difference(old[other[0].name], new[other[0].name])} for {len(other)} trials "
                f"that have begun ({other[0].name}): give it another name: to keep both, or put it back"
            )
        lines = []
        if added := [name for name in new if name not in old]:
            lines.append(f"{len(added)} trials are new: {_some(added)}")
        if gone := [name for name in old if name not in new]:
            lines.append(f"{len(gone)} trials are no longer asked for, and kept where they are: {_some(gone)}")
        if changed := [name for name in new if name in old and old[name] != new[name]]:
            what = _difference(old[changed[0]], new[changed[0]])
            lines.append(f"{len(changed)} trials that have not begun are others: {what}")
        return lines

    def _follow(self, sweep: Sweep) -> list[str]:
        lines = self.changes(sweep)
        before = self._read(self.path / SWEEP_FILE) or {}
        trials = before.get("trials", {}) | {trial.name: trial.definition() for trial in sweep.trials}
        write_atomically(
            self.path / SWEEP_FILE, json.dumps({"name": sweep.name, "trials": trials}, indent=1, default=str) + "\n"
        )
        return lines

    def _is_mine(self) -> bool:
        names = {path.name for path in self.path.iterdir()}
        return SWEEP_FILE in names or names <= {FAILURES, OUTPUT, ".lock"}  # killed before it was written

    def _has_anything(self, trial: Trial) -> bool:
        return self.run(trial).path.exists() or self._failure(trial).exists()

    def _failure(self, trial: Trial) -> Path:
        return self.path / FAILURES / f"{trial.name}.json"

    def _read(self, path: Path) -> dict[str, Any] | None:
        return read_json_object(path, _LARGEST, "is damaged", "move it away to go on without it")


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first value in which two definitions differ."""
    for part in ("options", "values"):
        before, now = old.get(part, {}), new[part]
        for key in [*now, *before]:
            if before.get(key) != now.get(key):
                return f"{key}: {before.get(key, 'its default')} -> {now.get(key, 'its default')}"
    return "its task"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
