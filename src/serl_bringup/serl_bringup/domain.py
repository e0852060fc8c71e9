# SPDX-License-Identifier: Apache-2.0
"""One ROS domain for each graph that the command line starts, so that two on a machine never mix.

A graph holds a lock on a small file for as long as it runs. The file says what runs there, which is how
``./serl topics`` in another terminal finds the graph without being told.
"""

import errno
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from serl_bringup.errors import CommandError

VARIABLE = "ROS_DOMAIN_ID"
# Above the default domain 0 and what people pick by hand; below 60, where the tests take theirs.
CANDIDATES = range(10, 60)
MAX_DOMAIN_ID = 232


@dataclass(frozen=True)
class RunningGraph:
    """A graph that runs now on this machine."""

    domain_id: int
    name: str  # of the run, or what is running
    run_dir: str
    pid: int
    started: float  # [s] since the epoch


class Domain:
    """A domain id held by this process until ``release``, and set in the environment meanwhile."""

    def __init__(self, domain_id: int, lock: int | None) -> None:
        self.id = domain_id
        self._lock = lock
        self._previous = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(domain_id)

    def release(self) -> None:
        """Gives the id back. A second call does nothing."""
        if self._lock is None:
            return
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = None
        if self._previous is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._previous

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def environment_domain() -> int | None:
    """The domain id that the person set, None when they did not.

    Raises:
        CommandError: it is not a domain id.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) > MAX_DOMAIN_ID:
        raise CommandError(f"{VARIABLE}: expected a number from 0 to {MAX_DOMAIN_ID}, found {text!r}")
    return int(text)


def claim(name: str, run_dir: Path | str = "", candidates: Iterable[int] = CANDIDATES) -> Domain:
    """Takes the domain of the environment, or else a free one.

    Args:
        name: what will run there, for the person who looks.
        run_dir: its run directory, empty when it has none.
        candidates: ids to choose from.

    Raises:
        CommandError: none is free.
    """
    chosen = environment_domain()
    candidates = list(candidates)
    for domain_id in [chosen] if chosen is not None else candidates:
        lock = _lock(domain_id)
        if lock is None and chosen is None:
            continue
        if chosen is None and _in_use(domain_id) and lock is not None:
            os.close(lock)
            continue
        if lock is not None:
            graph = RunningGraph(domain_id, name, str(run_dir), os.getpid(), time.time())
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(asdict(graph)).encode(), 0)
        return Domain(domain_id, lock)
    raise CommandError(
        f"no free ROS domain among {candidates[0]}..{candidates[-1]}: end another graph, or set {VARIABLE}"
    )


def running_graphs() -> list[RunningGraph]:
    """Every graph on this machine that was started by the command line and still runs."""
    graphs = []
    for path in sorted(Path(tempfile.gettempdir()).glob("serl_domain_*.lock")):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):  # another person's, or just gone
                continue
            raise
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.pread(file, 65536, 0)
            if content:
                graphs.append(RunningGraph(**json.loads(content)))
        finally:
            os.close(file)
    return graphs


def join(name: str = "") -> RunningGraph | None:
    """Sets the environment to the domain of a running graph that somebody else started.

    The one called `name`; without a name the domain of the environment, or else the only graph that runs, or else
    ROS's default. Returns the graph when it was found by looking, so that the person can be told.

    Raises:
        CommandError: there is no such graph, or several and no name.
    """
    graphs = running_graphs()
    if not name and environment_domain() is not None:
        return None
    chosen = [graph for graph in graphs if graph.name == name] if name else graphs
    if not chosen and not name:
        return None
    if len(chosen) != 1:
        names = ", ".join(f"{graph.name} (domain {graph.domain_id})" for graph in graphs) or "none"
        wish = f"no graph {name!r} runs" if name and not chosen else "several graphs run"
        raise CommandError(f"{wish}: choose with --graph NAME or {VARIABLE}; running: {names}")
    os.environ[VARIABLE] = str(chosen[0].domain_id)
    return chosen[0]


def _lock(domain_id: int) -> int | None:
    path = Path(tempfile.gettempdir()) / f"serl_domain_{domain_id}.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError:  # another person's
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _in_use(domain_id: int) -> bool:
    """Whether a first participant of this domain listens on this machine, whoever started it.

    The port is that of the RTPS specification, 9.6.1: 7400 + 250 * domain + 10 + 2 * participant.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", 7410 + 250 * domain_id))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False
