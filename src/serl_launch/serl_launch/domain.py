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
import stat
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from serl_config.strict_json import JsonError, parse_json

from serl_launch.errors import CommandError, DomainTakenError

VARIABLE = "ROS_DOMAIN_ID"
# Above the default domain 0 and what people pick by hand; below 60, where the tests take theirs.
CANDIDATES = range(10, 60)
MAX_DOMAIN_ID = 232
_UDP_TABLES = ("/proc/net/udp", "/proc/net/udp6")


@dataclass(frozen=True)
class RunningGraph:
    """A graph that runs now on this machine."""

    domain_id: int
    name: str  # of the run, or what is running
    run_dir: str
    pid: int
    started: float  # [s] since the epoch


_KINDS = {"domain_id": int, "name": str, "run_dir": str, "pid": int, "started": float}
_LONGEST = 65536  # [bytes] of what the owner of a lock writes


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
    """Takes the domain of the environment if no graph of ours has it, or else a free one.

    Args:
        name: what will run there, for the person who looks.
        run_dir: its run directory, empty when it has none.
        candidates: ids to choose from.

    Raises:
        CommandError: none is free.
        DomainTakenError: a graph of ours runs in that of the environment.
    """
    chosen = environment_domain()
    if chosen is not None:
        lock = _lock(chosen)
        if lock is None and (graph := _graph_in(chosen)) is not None:
            raise DomainTakenError(
                f"{VARIABLE}={chosen}: the graph {graph.name!r} (process {graph.pid}) runs in that domain; "
                f"unset {VARIABLE} to get a free one, or end it"
            )
        return Domain(chosen, _describe(lock, chosen, name, run_dir))
    candidates = list(candidates)
    for domain_id in candidates:
        lock = _lock(domain_id)
        if lock is None:
            continue
        if is_in_use(domain_id):
            os.close(lock)
            continue
        return Domain(domain_id, _describe(lock, domain_id, name, run_dir))
    raise CommandError(
        f"no free ROS domain among {candidates[0]}..{candidates[-1]}: end another graph, set {VARIABLE}, or set TMPDIR "
        "to a folder that can be written"
    )


def running_graphs() -> list[RunningGraph]:
    """Every graph of this user on this machine that was started by the command line and still runs.

    Whatever else lies where the files of the graphs are is passed over, without waiting for it.
    """
    graphs = (_graph_in(domain_id) for domain_id in range(MAX_DOMAIN_ID + 1))
    return [graph for graph in graphs if graph is not None]


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


def used_domains(*, own: bool = True, tables: Iterable[str] = _UDP_TABLES) -> list[int]:
    """ROS domains in which somebody on this machine takes part: this user, or anybody with `own=False`.

    Read from the sockets: RTPS (9.6.1) listens on 7400 + 250 * domain + 10 + 2 * participant and on the port behind it,
    and for multicast on 7400 + 250 * domain.
    """
    ports: set[tuple[int, int]] = set()
    for table in tables:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            ports.add((int(fields[7]), int(fields[1].rpartition(":")[2], 16)))
    found = set()
    for uid, port in ports:
        domain_id, offset = divmod(port - 7400, 250)
        listens = offset == 0 or (offset >= 10 and offset % 2 == 0 and (uid, port + 1) in ports)
        if listens and 0 <= domain_id <= MAX_DOMAIN_ID and (uid == os.getuid() or not own):
            found.add(domain_id)
    return sorted(found)


def _lock(domain_id: int) -> int | None:
    """The lock of a domain; None when another process has it, or when what lies in its place is not ours."""
    file = _open(domain_id, os.O_RDWR | os.O_CREAT)
    if file is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _describe(lock: int | None, domain_id: int, name: str, run_dir: Path | str) -> int | None:
    """Writes who has the lock into it."""
    if lock is not None:
        graph = RunningGraph(domain_id, name, str(run_dir), os.getpid(), time.time())
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(asdict(graph)).encode(), 0)
    return lock


def _graph_in(domain_id: int) -> RunningGraph | None:
    file = _open(domain_id, os.O_RDONLY)
    if file is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parse(os.pread(file, _LONGEST, 0), domain_id)
    finally:
        os.close(file)
    return None  # whoever wrote it has ended


def _parse(content: bytes, domain_id: int) -> RunningGraph | None:
    """What the owner of a lock wrote; None for anything else."""
    try:
        values = parse_json(content)
    except JsonError:
        return None
    if not isinstance(values, dict) or {name: type(value) for name, value in values.items()} != _KINDS:
        return None
    graph = RunningGraph(**values)
    return graph if graph.domain_id == domain_id else None


def _open(domain_id: int, flags: int) -> int | None:
    """The file of a domain; None when there is none, or something in its place that is no file of this user.

    Everybody can write where temporary files are: a pipe must not make us wait, nor a link lead us elsewhere.
    """
    try:
        path = Path(tempfile.gettempdir()) / f"serl_domain_{domain_id}.lock"
        file = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(file)
        return None
    return file


def is_in_use(domain_id: int) -> bool:
    """Whether a participant of this domain listens on this machine, whoever started it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", 7410 + 250 * domain_id))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return domain_id in used_domains(own=False)
