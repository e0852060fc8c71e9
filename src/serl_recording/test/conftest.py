# SPDX-License-Identifier: Apache-2.0
"""Episodes for the tests: of a task with two cameras and a state, drawn from a seed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serl_recording.episode import Episode, RecordingSpec
from serl_recording.registry import open_recording
from serl_rl.spec import ArraySpec, TransitionSpec

MEANING = {
    "kind": "pick",
    "robot": "arm",
    "control_period": 0.1,
    "state": [{"name": f"tcp_pose[{index}]", "shift": 0.0, "scale": 0.5} for index in range(3)],
    "action": [{"name": name, "scale": 0.02} for name in ("dx", "dy", "gripper")],
}
SIZE = (24, 32, 3)  # of the pictures


WRITE_UNTIL_KILLED = """
import sys
sys.path.insert(0, {folder!r})
from conftest import draw_episode, draw_spec
from pathlib import Path
from serl_recording.registry import create_recording
spec = draw_spec()
with create_recording(Path({path!r}), {format!r}, spec) as writer:
    for seed in range(10_000):
        writer.append(draw_episode(spec, seed, steps=5))
        print(seed, flush=True)
"""


def draw_spec(*, cameras: int = 2, rate: float = 10.0) -> RecordingSpec:
    entries = {name: ArraySpec(SIZE, "uint8") for name in ("front", "wrist")[:cameras]}
    return RecordingSpec(
        TransitionSpec(entries | {"state": ArraySpec((3,), "float32")}, 3, meaning=MEANING), rate, "pick the cube"
    )


def draw_episode(
    spec: RecordingSpec,
    seed: int = 0,
    *,
    steps: int | None = None,
    stamped: bool = True,
    success: bool = True,
    number: int | None = None,
) -> Episode:
    """An episode of smooth pictures, which codecs change little."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8)) if steps is None else steps
    observation = {}
    for name, entry in spec.transitions.observation.items():
        if entry.kind == "image":
            height, width, channels = entry.shape
            rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
            slopes = rng.uniform(20, 120, (n + 1, 1, 1, channels))
            picture = slopes * rows + rng.uniform(20, 120, (n + 1, 1, 1, channels)) * columns
            observation[name] = np.rint(picture).astype(np.uint8)
        else:
            observation[name] = rng.normal(size=(n + 1, *entry.shape)).astype(entry.dtype)
    reward = np.zeros(n, np.float32)
    reward[-1] = success
    drift = rng.integers(0, 1_000_000, n + 1)
    period = round(1e9 / spec.rate)
    stamp = 1_700_000_000_000_000_000 + np.arange(n + 1) * period + drift
    return Episode(
        observation=observation,
        action=rng.uniform(-1, 1, (n, spec.transitions.action_dim)).astype(np.float32),
        reward=reward,
        intervention=rng.random(n) < 0.5,
        policy_version=rng.integers(0, 2**40, n).astype(np.uint64),
        stamp=(stamp if stamped else np.rint(np.arange(n + 1) * (1e9 / spec.rate))).astype(np.int64),
        stamped=stamped,
        terminated=success,
        truncated=not success,
        success=success,
        demonstration=bool(rng.random() < 0.5),
        actor=f"actor_{seed % 3}",
        number=seed if number is None else number,
    )


def assert_same(found: Episode, expected: Episode, *, pictures: float = 0.0) -> None:
    """Every value is equal; those of pictures differ by no more than `pictures` on average."""
    assert set(found.observation) == set(expected.observation)
    for name, rows in expected.observation.items():
        got = found.observation[name]
        assert (got.dtype, got.shape) == (rows.dtype, rows.shape), name
        if rows.dtype == np.uint8 and pictures:
            assert np.abs(got.astype(int) - rows).mean() <= pictures, name
        else:
            np.testing.assert_array_equal(got, rows, err_msg=name)
    for name in ("action", "reward", "intervention", "policy_version", "stamp"):
        got, rows = getattr(found, name), getattr(expected, name)
        assert got.dtype == rows.dtype, name
        np.testing.assert_array_equal(got, rows, err_msg=name)
    plain = ("stamped", "terminated", "truncated", "success", "demonstration", "actor", "number")
    assert {name: getattr(found, name) for name in plain} == {name: getattr(expected, name) for name in plain}


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., RecordingSpec]:
    return draw_spec


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    return draw_episode


@pytest.fixture(scope="session")
def same() -> Callable[..., None]:
    return assert_same


@pytest.fixture(scope="session")
def unended() -> Callable[[Episode], Episode]:
    return lambda episode: replace(episode, terminated=False, truncated=False)


@pytest.fixture(scope="session")
def kill_while_writing() -> Callable[[Path, str, int], int]:
    """Kills a process that writes a recording when it has appended so many episodes; gives the number of the last."""

    def kill(path: Path, format_: str, after: int) -> int:
        program = WRITE_UNTIL_KILLED.format(folder=str(Path(__file__).parent), path=str(path), format=format_)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            appended = [int(process.stdout.readline()) for _ in range(after)][-1]
            os.kill(process.pid, signal.SIGKILL)
        return appended

    return kill


@pytest.fixture(scope="session")
def reads_back(same: Callable[..., None]) -> Callable[[Path, RecordingSpec, list[Episode]], None]:
    """Fails unless a recording has just these episodes, in every value."""

    def check(path: Path, spec: RecordingSpec, episodes: list[Episode]) -> None:
        reader = open_recording(path)
        assert reader.spec == spec
        found = list(reader.episodes())
        assert len(found) == len(episodes)
        for one, other in zip(found, episodes, strict=True):
            same(one, other)

    return check
