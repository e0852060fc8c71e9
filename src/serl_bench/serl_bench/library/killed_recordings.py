# SPDX-License-Identifier: Apache-2.0
"""Benchmark of what is left of a recording that is killed.

Run as a program it records until it is killed, and says the number of each episode that it has appended:

    python -m serl_bench.library.killed_recordings RECORDING FORMAT
"""

import importlib
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from serl_recording.episode import Episode, RecordingError, RecordingSpec, nominal_stamps
from serl_recording.registry import FORMATS, create_recording, open_recording
from serl_rl.spec import ArraySpec, TransitionSpec

from serl_bench.benchmark import Bench, Measurement

KILLS = 50
"""Killed recordings of each format."""
LONGEST = 0.6
"""[s] from the first episode to the kill."""
STEPS = 20

SPEC = RecordingSpec(
    TransitionSpec({"front": ArraySpec((64, 64, 3), "uint8"), "state": ArraySpec((8,), "float32")}, 4), 10.0, "bench"
)


def record_lost_episodes(bench: Bench) -> Measurement:
    """Episodes that a killed recording had appended and that nobody can read; of all formats that are installed."""
    choose = random.Random(0)
    lost: dict[str, int] = {}
    appended: dict[str, int] = {}
    missing: list[str] = []
    for name in (name for name, format_ in FORMATS.items() if format_.writer is not None):
        if not _is_installed(bench.scratch / f"{name}-probe", name):
            missing.append(name)
            continue
        lost[name] = appended[name] = 0
        for kill in range(KILLS):
            bench.say(f"{name}: kill {kill + 1} of {KILLS}, {sum(lost.values())} episodes lost")
            path = bench.scratch / f"{name}-{kill}"
            numbers = _killed(path, name, choose.uniform(0.0, LONGEST))
            part = path.with_name(f"{path.name}.part")
            found = _found(part if part.exists() else path, name)
            lost[name] += len(numbers - found)
            appended[name] += len(numbers)
    spread = f"of {sum(appended.values()):,} episodes, {KILLS} kills each of {', '.join(lost)}"
    if missing:
        spread += f"; not installed: {', '.join(missing)}"
    return Measurement(float(sum(lost.values())), spread, {"lost": lost, "appended": appended})


def _is_installed(path: Path, name: str) -> bool:
    """Whether the packages of a format are there; raises RecordingError where something else is in the way."""
    try:
        create_recording(path, name, SPEC).close(finished=False)
    except RecordingError as error:
        if isinstance(error.__cause__, ImportError):
            return False
        raise
    return True


def _found(path: Path, name: str) -> set[int]:
    """Numbers of the episodes that can be read."""
    if name == "rerun":  # which counts them; only the viewer's own reader reads it
        chunks = importlib.import_module("rerun.chunk").RrdReader(path).stream()
        batches = [chunk.to_record_batch() for chunk in chunks if chunk.entity_path == "/episode"]
        return {number for batch in batches for number in batch.column("episode").to_pylist()}
    return {episode.number for episode in open_recording(path).episodes(_no_report)}


def _no_report(_error: RecordingError) -> None:
    """The episode that was being written is damaged, as it may be."""


def _killed(path: Path, format_: str, seconds: float) -> set[int]:
    """Numbers of the episodes that a recording had appended when it was killed, so long [s] after the first one."""
    command = [sys.executable, "-m", "serl_bench.library.killed_recordings", str(path), format_]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        if not first:
            raise RecordingError(f"a recording ended by itself: {process.stderr.read().strip()[-300:]}")
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        lines = [first, *process.stdout]
        timer.join()
    return {int(line) for line in lines if line.endswith("\n")}


def _episodes() -> Iterator[Episode]:
    rng = np.random.default_rng(0)
    for number in count():
        yield Episode(
            observation={
                "front": rng.integers(0, 256, (STEPS + 1, 64, 64, 3), dtype=np.uint8),
                "state": rng.normal(size=(STEPS + 1, 8)).astype(np.float32),
            },
            action=rng.uniform(-1, 1, (STEPS, 4)).astype(np.float32),
            reward=np.zeros(STEPS, np.float32),
            intervention=np.zeros(STEPS, np.bool_),
            policy_version=np.zeros(STEPS, np.uint64),
            stamp=nominal_stamps(STEPS + 1, SPEC.rate),
            stamped=False,
            terminated=False,
            truncated=True,
            success=False,
            demonstration=True,
            actor="bench",
            number=number,
        )


def main() -> None:
    """Record until killed."""
    with create_recording(Path(sys.argv[1]), sys.argv[2], SPEC) as writer:
        for episode in _episodes():
            writer.append(episode)
            print(episode.number, flush=True)


if __name__ == "__main__":
    main()
