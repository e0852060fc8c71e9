# SPDX-License-Identifier: Apache-2.0
"""Buffers that share an amount of memory, each with its files in a folder of its own."""

from __future__ import annotations

import logging
import resource
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from serl_rl.capacity import parse_bytes
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.tiered import MOST_BLOCKS, Cold, plan_cold
from serl_rl.spec import TransitionSpec

_SPARE_FILES = 256
"""Open files for everything else: sockets, journals, logs."""

_log = logging.getLogger(__name__)


class MakeBuffer(Protocol):
    """Makes a buffer of some transitions."""

    def __call__(self, capacity: int, *, cold: Cold | None = None) -> ReplayBuffer:
        """A buffer for so many, all in memory without `cold`."""


def tiered_buffer(
    make_buffer: MakeBuffer,
    spec: TransitionSpec,
    memory: str,
    shares: int,
    folder: Path,
    capacity: int,
    name: str,
    refill: Callable[[ReplayBuffer], None],
) -> ReplayBuffer:
    """A buffer with an equal share of some memory.

    Args:
        make_buffer: makes it.
        spec: of the transitions.
        memory: bytes with a unit, or all.
        shares: buffers that divide it.
        folder: for the files of all of them.
        capacity: number of transitions.
        name: of its own folder in there.
        refill: as `Cold` has it.

    Raises:
        ValueError: the memory is too little, or so many files may not be open.
    """
    if memory == "all":
        return make_buffer(capacity)
    cold = plan_cold(spec, capacity, parse_bytes(memory) // shares, folder / name, refill, shares)
    if cold is not None:
        allow_open_files(shares * MOST_BLOCKS * (1 + len(spec.frame_names)))
    return make_buffer(capacity, cold=cold)


def allow_open_files(count: int) -> None:
    """Let this process have so many files open beside what it has now, as far as the system lets it.

    Raises:
        ValueError: it does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + len(list(Path("/proc/self/fd").iterdir())) + _SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"replay_memory: expected a limit of at least {needed} open files, {count} of them for what is not in "
            f"memory, found {hard} (ulimit -Hn); raise it, mount fewer runs by --prior, or set replay_memory=all"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    _log.info("limit of open files raised from %d to %d, for what is not in memory", soft, needed)


def remove_unused(folder: Path, buffers: Iterable[ReplayBuffer]) -> None:
    """Remove what buffers of earlier starts have left in a folder, and the folder where none of these needs it."""
    used = {buffer.folder for buffer in buffers}
    for each in list(folder.iterdir()) if folder.is_dir() else []:
        if each not in used:
            shutil.rmtree(each, ignore_errors=True)
    if folder.is_dir() and not any(used):
        shutil.rmtree(folder, ignore_errors=True)
