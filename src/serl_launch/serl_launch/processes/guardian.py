# SPDX-License-Identifier: Apache-2.0
"""The runner's side of the guardian process, which outlives the runner by as long as it takes to end the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from serl_launch.processes import guardian_process


class Guardian:
    """Sees to it that nothing which was started under its mark outlives the runner."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._watched: set[int] = set()
        self._process = self._spawn()

    def marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment that a process to be guarded must be started with; it is guarded from its start.

        If the guardian itself was killed, another one takes its place.
        """
        if self._process.poll() is not None:
            self._replace()
        marks = [*environment.get(guardian_process.MARK_VARIABLE, "").split(":"), self._mark]
        return {**environment, guardian_process.MARK_VARIABLE: ":".join(mark for mark in marks if mark)}

    def watch(self, pid: int) -> None:
        """Guard a child that was just started, whatever becomes of its environment."""
        self._watched.add(pid)
        try:
            self._tell(pid)
        except BrokenPipeError:
            self._replace()

    def unwatch(self, pid: int) -> None:
        """The child has ended and its number may be used again."""
        self._watched.discard(pid)

    def close(self) -> list[str]:
        """End what is left, and the guardian; "number name" of each process that had to be killed."""
        return self._collect().decode(errors="replace").splitlines()

    def _spawn(self) -> subprocess.Popen[bytes]:
        script = str(Path(guardian_process.__file__))
        return subprocess.Popen(
            [sys.executable, "-I", "-S", script, self._mark, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )

    def _replace(self) -> None:
        self._collect()
        self._process = self._spawn()
        for watched in self._watched:
            self._tell(watched)

    def _tell(self, pid: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{pid}\n".encode())

    def _collect(self) -> bytes:
        output, _ = self._process.communicate()
        return output
