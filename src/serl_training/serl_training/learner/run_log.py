# SPDX-License-Identifier: Apache-2.0
"""The numbers of a run on disk: ``metrics.csv`` (one number a row) and TensorBoard event files.

The CSV is the record that plots and benchmarks read; a row that a kill tore in half is dropped, never guessed.
"""

import csv
import io
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

# The library's own SummaryWriter writes from a thread that a full disk ends, after which every call blocks forever.
from serl_config.files import FileError, open_file, read_bytes
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

METRICS_FILE = "metrics.csv"
SIZE_LIMIT = 2**31
"""[bytes] of it that are read."""
TENSORBOARD_DIR = "tensorboard"
COLUMNS = ("wall_time", "env_steps", "node", "name", "value")
TENSORBOARD_FLUSH_PERIOD = 2.0  # [s]
_LONGEST_LINE = 65536  # [bytes]
_OF_FLEET, _FLEET = "autonomy/", "fleet"  # what a node of this name counts over all arms, and each arm for itself
_LOOK = 2**20  # [bytes] that `entries_after` reads at once
_HEADER = (",".join(COLUMNS) + "\n").encode()


class RunLogError(OSError):
    """The numbers of a run cannot be written, or what is on disk is not such a file."""


@dataclass(frozen=True)
class Series:
    """One named number over a run, in the order in which it was written. All arrays have shape ``(n,)``."""

    wall_time: npt.NDArray[np.float64]  # [s] since the epoch
    env_steps: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


class RunLog:
    """Appends named numbers to the files of one run; opening the same run again continues them.

    Each ``write`` is handed to the kernel before it returns, so a killed process loses nothing of the CSV.

    Raises:
        RunLogError: the folder cannot be written, the disk is full, or ``metrics.csv`` is another kind of file.
    """

    def __init__(self, run_dir: Path | str) -> None:
        self._run_dir = Path(run_dir)
        self._path = self._run_dir / METRICS_FILE
        self._tensorboard_flush = 0.0
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would wait
            self._file = os.open(self._path, flags, 0o644)
        except OSError as error:
            raise RunLogError(f"{self._path}: cannot be opened for writing: {error.strerror}") from error
        try:
            self._end = self._repair()
            self._events = self._open_events()
        except BaseException:
            os.close(self._file)
            raise

    def write(self, node: str, env_steps: int, values: Mapping[str, float]) -> None:
        """Adds one row for each of ``values`` (name to number), all with the same wall time and ``env_steps``."""
        if not values:
            return
        now = time.time()
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerows([f"{now:.6f}", int(env_steps), node, name, repr(float(v))] for name, v in values.items())
        self._append(text.getvalue().encode())
        self._write_events(now, int(env_steps), values)

    def close(self) -> None:
        """Ends the files. A second call does nothing. Raises RunLogError if what is left cannot be written."""
        if self._file < 0:
            return
        os.close(self._file)
        self._file = -1
        try:
            self._events.close()
        except OSError as error:
            raise RunLogError(f"{self._run_dir / TENSORBOARD_DIR}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _repair(self) -> int:
        """Checks the header and cuts off a torn last line. Returns the length of the file [bytes]."""
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise RunLogError(f"{self._path}: expected a file, found something else; move it out of the way")
        start = os.pread(self._file, len(_HEADER), 0)
        if _HEADER.startswith(start) and start != _HEADER:
            os.ftruncate(self._file, 0)
            self._end = 0
            self._append(_HEADER)
            return self._end
        before = max(0, status.st_size - _LONGEST_LINE)
        end = os.pread(self._file, _LONGEST_LINE, before).rfind(b"\n") + 1
        if start != _HEADER or not end:
            raise RunLogError(
                f"{self._path}: not a metrics file (expected the header {','.join(COLUMNS)!r}); move it out of the way"
            )
        os.ftruncate(self._file, before + end)
        return before + end

    def _append(self, data: bytes) -> None:
        if os.fstat(self._file).st_nlink == 0:
            raise RunLogError(f"{self._path}: was deleted while it was being written; start the learner again")
        try:
            written = os.write(self._file, data)
        except OSError as error:
            written, reason = 0, error.strerror
        else:
            reason = "the disk is full"
        if written == len(data):
            self._end += written
            return
        if written:
            os.ftruncate(self._file, self._end)
        raise RunLogError(f"{self._path}: cannot be written: {reason}; what was written before is intact")

    def _open_events(self) -> EventsWriter:
        folder = self._run_dir / TENSORBOARD_DIR
        try:
            folder.mkdir(exist_ok=True)
            # The process id keeps two starts within one second apart: the library's name would overwrite the first.
            return EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.time_ns() % 1_000_000_000}")
        except OSError as error:
            raise RunLogError(f"{folder}: cannot be written: {error.strerror}") from error

    def _write_events(self, now: float, env_steps: int, values: Mapping[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        try:
            self._events.write_event(Event(wall_time=now, step=env_steps, summary=Summary(value=scalars)))
            if now - self._tensorboard_flush >= TENSORBOARD_FLUSH_PERIOD:
                self._events.flush()
                self._tensorboard_flush = now
        except OSError as error:
            raise RunLogError(f"{self._run_dir / TENSORBOARD_DIR}: cannot be written: {error.strerror}") from error


@dataclass(frozen=True)
class Entry:
    """What was written together: numbers of one node at one time."""

    wall_time: float  # [s] since the epoch
    env_steps: int
    node: str
    values: dict[str, float]


def entries_after(run_dir: Path | str, position: int) -> tuple[list[Entry], int]:
    """What a run's ``RunLog`` has written since the last look, and where to look on; at most 1 MiB at once.

    Args:
        run_dir: folder of the run; nothing need be there yet.
        position: of the last look [bytes]; 0 at first.

    Raises:
        RunLogError: ``metrics.csv`` is another kind of file or damaged.
    """
    path = Path(run_dir) / METRICS_FILE
    if not path.exists():
        return [], position
    try:
        with open_file(path) as file:
            file.seek(position)
            content = file.read(_LOOK)
    except (FileError, OSError) as error:
        raise RunLogError(f"{path}: cannot be read: {error}") from error
    complete = content[: content.rfind(b"\n") + 1]
    if position == 0 and complete and not complete.startswith(_HEADER):
        raise RunLogError(f"{path}: not a metrics file (expected the header {','.join(COLUMNS)!r})")
    entries: list[Entry] = []
    try:
        for row in csv.reader(io.StringIO((complete if position else complete[len(_HEADER) :]).decode())):
            wall_time, env_steps, node, name, value = row
            key = (float(wall_time), int(env_steps), node)
            last = entries[-1] if entries else None
            if last is None or name in last.values or key != (last.wall_time, last.env_steps, last.node):
                entries.append(last := Entry(*key, values={}))
            last.values[name] = float(value)
    except (ValueError, csv.Error) as error:
        raise RunLogError(f"{path}: expected {','.join(COLUMNS)} after byte {position}: {error}") from error
    return entries, position + len(complete)


def read_metrics(run_dir: Path | str) -> dict[str, Series]:
    """Reads what ``RunLog`` wrote: name to series, empty when nothing was written yet.

    Where a fleet has told how far it gets without a person (``autonomy/...``), what its arms tell each of itself is
    left out from there on.

    Raises:
        RunLogError: ``metrics.csv`` is another kind of file or damaged anywhere but in its last line.
    """
    path = Path(run_dir) / METRICS_FILE
    if not path.exists():
        return {}
    try:
        content = read_bytes(path, SIZE_LIMIT)
    except FileError as error:
        raise RunLogError(str(error)) from error
    if _HEADER.startswith(content):
        return {}
    if not content.startswith(_HEADER):
        raise RunLogError(f"{path}: not a metrics file (expected the header {','.join(COLUMNS)!r})")
    complete = content[len(_HEADER) : content.rfind(b"\n") + 1]
    columns: dict[str, tuple[list[float], list[int], list[float]]] = {}
    number, depth = 1, 10**6  # line of the file, and of the namespace of the fleet that was heard last
    try:
        for row in csv.reader(io.StringIO(complete.decode())):
            number += 1
            wall_time, env_steps, node, name, value = row
            if name.startswith(_OF_FLEET):
                if node.rpartition("/")[2] == _FLEET:
                    depth = node.count("/")
                elif node.count("/") > depth:
                    continue
            times, steps, numbers = columns.setdefault(name, ([], [], []))
            times.append(float(wall_time))
            steps.append(int(env_steps))
            numbers.append(float(value))
    except (ValueError, csv.Error) as error:
        raise RunLogError(f"{path}:{number}: expected {','.join(COLUMNS)}: {error}") from error
    return {
        name: Series(np.asarray(times, np.float64), np.asarray(steps, np.int64), np.asarray(numbers, np.float64))
        for name, (times, steps, numbers) in columns.items()
    }
