# SPDX-License-Identifier: Apache-2.0
"""Lines out of the pipes of a process, and the files they are kept in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TextIO

from serl_config.text import escaped

from serl_launch.processes.events import Event, OutputLine, Stream

_READ_SIZE = 65536
_READS_TO_DRAIN = 32
"""Twice what fits into the largest pipe, so that a descendant that goes on writing does not hold up the loop."""
_LONGEST_LINE = 65536
"""Longer ones are cut, so that a process that never ends its line cannot fill the memory [bytes]."""

_ON_SCREEN: dict[str, frozenset[Stream]] = {
    "log": frozenset({"stderr"}),
    "screen": frozenset({"stdout", "stderr"}),
    "both": frozenset({"stdout", "stderr"}),
    "own_log": frozenset(),
    "full": frozenset({"stdout", "stderr"}),
}
_MAIN_LOG = "launch.log"
_IN_OWN_FILES = frozenset({"own_log", "full"})


class OutputPipe:
    """One of the two pipes of a process, as lines."""

    def __init__(self, pipe: IO[bytes], process: str, stream: Stream, output: str) -> None:
        self.pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        self._process = process
        self._stream: Stream = stream
        self._screen = stream in _ON_SCREEN[output]
        self._pending = b""
        self._drained = False
        self.ended = False
        """Whether the other end has been closed, by the process and by all that inherited it."""

    def read(self) -> Iterator[OutputLine]:
        """The lines that have come in, as far as one read gives them."""
        try:
            data = os.read(self.pipe.fileno(), _READ_SIZE)
        except BlockingIOError:
            self._drained = True
            return
        self._drained = self.ended = not data
        *lines, self._pending = (self._pending + data).split(b"\n")
        yield from map(self._line, lines)
        if self.ended or len(self._pending) >= _LONGEST_LINE:
            yield from self.flush()

    def drain(self) -> Iterator[OutputLine]:
        """All lines that are in the pipe now."""
        self._drained = False
        for _ in range(_READS_TO_DRAIN):
            if self._drained:
                break
            yield from self.read()

    def flush(self) -> Iterator[OutputLine]:
        """What came in without the end of its line."""
        if self._pending:
            yield self._line(self._pending)
        self._pending = b""

    def _line(self, line: bytes) -> OutputLine:
        # Processes repeat what others have sent them.
        text = escaped(line.removesuffix(b"\r").decode(errors="replace"), keep="\t")
        return OutputLine(self._process, self._stream, text, self._screen)


class LogFiles:
    """The files of one launch: `launch.log` has every event, `NAME.log` and `NAME-STREAM.log` those of some processes.

    `outputs` gives the output attribute of each process. Raises OSError, as every call of it may.
    """

    def __init__(self, folder: Path, outputs: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._outputs = outputs
        self._files: dict[str, TextIO] = {}
        self._open(_MAIN_LOG)

    def write(self, event: Event) -> None:
        """Append an event with its time to launch.log, and a line to the process's own files if it has them."""
        self._append(_MAIN_LOG, f"{time.time():.7f} {event}")
        if isinstance(event, OutputLine) and self._outputs[event.process] in _IN_OWN_FILES:
            self._append(f"{event.process}.log", str(event))
            self._append(f"{event.process}-{event.stream}.log", event.text)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _append(self, name: str, line: str) -> None:
        file = self._files.get(name) or self._open(name)
        file.write(f"{line}\n")

    def _open(self, name: str) -> TextIO:
        # Line buffered: what was said before a kill -9 is in the file.
        self._files[name] = (self._folder / name).open("a", buffering=1, encoding="utf-8")
        return self._files[name]
