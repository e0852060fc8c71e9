# SPDX-License-Identifier: Apache-2.0
"""Benchmark of recording the topics of a live graph: frames that are missing in the bag."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from serl_config.strict_yaml import parse_upstream_yaml
from serl_launch.errors import CommandError
from serl_recording.formats.bag.metadata import INFO
from serl_recording.raw_bag import reindex

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.drivers_node import topics
from serl_bench.peer_processes import stop
from serl_launch import domain

SECONDS = 600.0
_LOOK_PERIOD = 1.0  # [s] between two looks for files that are complete
_PATIENCE = 120.0  # [s] beyond the time of publishing
_RECORDER = "import os; os.sched_setaffinity(0, {{{core}}}); from serl_training.raw_recorder_node import main; main()"


def record_dropped(bench: Bench) -> Measurement:
    """Frames and states that two cameras and an arm have published in 10 minutes, and that are not in the bag."""
    return measure(bench, SECONDS)


def measure(bench: Bench, seconds: float) -> Measurement:
    """What `record_dropped` measures, in another time [s]. Complete files are counted and deleted: they are 55 MB/s.

    Raises:
        CommandError: recorder or drivers failed.
    """
    folder, log = bench.scratch / "bag", bench.scratch / "record_dropped.log"
    published = {topic: round(seconds * rate) for topic, rate in topics().items()}
    found: Counter[str] = Counter()
    claimed = domain.claim("record_dropped")
    try:
        with log.open("wb") as output, _processes(folder, seconds, output) as (recorder, drivers):
            deadline = time.monotonic() + seconds + _PATIENCE
            while drivers.poll() is None:
                if recorder.poll() is not None or time.monotonic() > deadline:
                    raise CommandError(f"recording ended early, or takes too long; see {log}", details=_end_of(log))
                time.sleep(_LOOK_PERIOD)
                found += _count_complete(folder)
                bench.say(f"{found.total():,} of {sum(published.values()):,} messages in files that are complete")
    finally:
        claimed.release()
    found += _count(folder)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("published ")]
    if not said:
        raise CommandError(f"the drivers published nothing; see {log}", details=_end_of(log))
    took = float(said[0].split()[1])
    missing = {topic: count - found[topic] for topic, count in published.items()}
    spread = f"of {sum(published.values()):,} messages in {took:.0f} s ({seconds:.0f} s were meant)"
    details = {"missing": missing, "published": published, "seconds": took}
    return Measurement(float(sum(map(abs, missing.values()))), spread, details)


@contextmanager
def _processes(
    folder: Path, seconds: float, output: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """The recorder on one core, and what it records on the others."""
    cores = sorted(os.sched_getaffinity(0))
    recorder_program = (sys.executable, "-c", _RECORDER.format(core=cores[-1]))
    arguments = ("--ros-args", "-p", f"folder:={folder}", "-p", "pictures:=raw")
    commands = (
        (*recorder_program, *arguments, "-p", "topics:=color/image_raw|joint_states"),
        (sys.executable, "-m", "serl_bench.graph.drivers_node", str(seconds)),
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True))
        yield running[0], running[1]
    finally:
        for process in running:
            stop(process)


def _count_complete(folder: Path) -> Counter[str]:
    """Messages by topic in the files that the recorder has closed; these are deleted, their metadata stays."""
    info = folder / INFO
    if not info.exists():
        return Counter()
    tree = parse_upstream_yaml(info.read_text(encoding="utf-8"), str(info))["rosbag2_bagfile_information"]
    complete = [folder / name for name in tree["relative_file_paths"][:-1]]
    counted: Counter[str] = Counter()
    for path in complete:
        if path.exists():
            aside = folder.with_name(f"counted_{path.stem}")
            aside.mkdir()
            path.rename(aside / path.name)
            counted += _count(aside)
    return counted


def _count(folder: Path) -> Counter[str]:
    """Messages by topic in a bag, which is deleted."""
    reindex(folder)
    tree = parse_upstream_yaml((folder / INFO).read_text(encoding="utf-8"), str(folder))
    topics_found = tree["rosbag2_bagfile_information"]["topics_with_message_count"]
    shutil.rmtree(folder)
    return Counter({each["topic_metadata"]["name"]: each["message_count"] for each in topics_found})


def _end_of(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-15:]
