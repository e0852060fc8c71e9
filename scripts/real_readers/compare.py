# SPDX-License-Identifier: Apache-2.0
"""Writes recordings for the readers of others, and compares what these have read, and what we read of theirs.

python compare.py write FOLDER
python compare.py compare FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_recording.episode import Episode, RecordingSpec
from serl_recording.registry import ReadSettings, WriteSettings, create_recording, open_recording
from serl_rl.spec import ArraySpec, TransitionSpec

SPEC = RecordingSpec(
    TransitionSpec(
        {
            "front": ArraySpec((96, 128, 3), "uint8"),
            "wrist": ArraySpec((64, 64, 3), "uint8"),
            "state": ArraySpec((3,), "float32"),
        },
        4,
    ),
    10.0,
    "pick the cube",
)
RECORDINGS = (("lerobot", "video"), ("lerobot", "png"), ("rlds", "png"), ("mcap", "png"))
CODEC = 3.0
"""[of 255] that pictures of a video may be off, on average."""


def draw(number: int) -> Episode:
    """An episode of smooth pictures."""
    rng = np.random.default_rng(number)
    n = 10 + 3 * number
    observation: dict[str, NDArray[Any]] = {"state": rng.normal(size=(n + 1, 3)).astype(np.float32)}
    for name in SPEC.cameras:
        height, width, _ = SPEC.transitions.observation[name].shape
        slopes = rng.uniform(20, 110, (2, n + 1, 1, 1, 3))
        rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
        observation[name] = np.rint(slopes[0] * rows + slopes[1] * columns).astype(np.uint8)
    reward = np.zeros(n, np.float32)
    reward[-1] = number % 2
    return Episode(
        observation=observation,
        action=rng.uniform(-1, 1, (n, 4)).astype(np.float32),
        reward=reward,
        intervention=rng.random(n) < 0.5,
        policy_version=rng.integers(0, 2**40, n).astype(np.uint64),
        stamp=1_700_000_000_000_000_000
        + number * 10**11
        + np.arange(n + 1) * 100_000_000
        + rng.integers(0, 10**6, n + 1),
        stamped=True,
        terminated=number % 2 == 1,
        truncated=number % 2 == 0,
        success=number % 2 == 1,
        demonstration=True,
        actor="actor",
        number=number,
    )


def write(folder: Path) -> None:
    """Write the same episodes in every format."""
    for format_, pictures in RECORDINGS:
        with create_recording(folder / f"{format_}_{pictures}", format_, SPEC, WriteSettings(pictures)) as writer:
            for number in range(4):
                writer.append(draw(number))


def equal(what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Raise AssertionError unless every value is the same."""
    np.testing.assert_array_equal(found.reshape(expected.shape), expected, err_msg=what)


def near(what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Raise AssertionError unless pictures are as a codec leaves them; say how far they are off."""
    off = np.abs(found.astype(int) - expected.astype(int))
    print(f"  {what}: off by {off.mean():.2f} of 255 on average, {off.max()} at most")
    assert off.mean() <= CODEC, what


def compare(folder: Path) -> None:
    """Compare everything; an AssertionError says what differs."""
    episodes = [draw(number) for number in range(4)]

    def rows(of: Callable[[Episode], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([of(episode) for episode in episodes])

    def behind(array: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([array, np.zeros_like(array[:1])])

    for pictures in ("video", "png"):
        found = np.load(folder / f"lerobot_{pictures}.npz")
        equal("state", found["observation.state"], rows(lambda each: each.observation["state"][:-1]))
        equal("action", found["action"], rows(lambda each: each.action))
        equal("reward", found["next.reward"], rows(lambda each: each.reward))
        equal("led", found["complementary_info.is_intervention"], rows(lambda each: each.intervention))
        equal("stamp", found["complementary_info.stamp_ns"], rows(lambda each: each.stamp[:-1]))
        for name in SPEC.cameras:
            seen = np.rint(found[f"observation.images.{name}"] * 255).transpose(0, 2, 3, 1)
            expected = rows(lambda each, name=name: each.observation[name][:-1])  # type: ignore[misc]
            check = near if pictures == "video" else equal
            check(f"LeRobotDataset, {pictures}, {name}", seen, expected)
        theirs = np.load(folder / f"theirs_lerobot_{pictures}.npz")
        read = list(open_recording(folder / f"theirs_lerobot_{pictures}").episodes())
        equal("their action", np.concatenate([each.action for each in read]), theirs["action"])
        seen = np.concatenate([each.observation["front"][:-1] for each in read])
        near("written by LeRobotDataset, front", seen, theirs["observation.images.front"])
    print("LeRobotDataset: every value equal in both directions")

    found = np.load(folder / "rlds_png.npz")
    for name in SPEC.transitions.observation:
        equal(name, found[f"observation/{name}"], rows(lambda each, name=name: each.observation[name]))  # type: ignore[misc]
    equal("action", found["action"], rows(lambda each: behind(each.action)))
    equal("reward", found["reward"], rows(lambda each: behind(each.reward)))
    equal("stamp", found["stamp_ns"], rows(lambda each: each.stamp))
    theirs = np.load(folder / "theirs_rlds.npz")
    for each in open_recording(folder / "theirs_rlds/theirs", ReadSettings(rate=10.0)).episodes():
        steps = len(each) + 1
        equal("their state", each.observation["state"], theirs[f"{steps}/state"])
        equal("their front", each.observation["front"], theirs[f"{steps}/front"])
        equal("their action", each.action, theirs[f"{steps}/action"][:-1])
    print("tensorflow_datasets: every value equal in both directions, pictures included")

    found = np.load(folder / "mcap_png.npz")
    equal("state", found["/observation/state"], rows(lambda each: each.observation["state"]))
    equal("stamp", found["/observation/state/stamp"], rows(lambda each: each.stamp))
    equal("action", found["/arm/executed"][:, 3:].astype(np.float32), rows(lambda each: each.action))
    equal("led", found["/arm/executed"][:, 2] == 2, rows(lambda each: each.intervention))
    equal("reward", found["/reward"][:, 2].astype(np.float32), rows(lambda each: each.reward))
    print("rosbags and mcap: every value equal")


if __name__ == "__main__":
    {"write": write, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
