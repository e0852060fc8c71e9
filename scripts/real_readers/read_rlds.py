# SPDX-License-Identifier: Apache-2.0
"""Runs where TensorFlow Datasets is installed: reads one dataset of ours, and writes one for us to read.

python read_rlds.py DATASET READ.npz NEW_FOLDER WRITTEN.npz
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

FEATURES = tfds.features.FeaturesDict(
    {
        "steps": tfds.features.Dataset(
            {
                "observation": {
                    "state": tfds.features.Tensor(shape=(3,), dtype=np.float32),
                    "front": tfds.features.Image(shape=(16, 24, 3), dtype=np.uint8, encoding_format="png"),
                },
                "action": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                "reward": tfds.features.Scalar(dtype=np.float32),
                "is_terminal": tfds.features.Scalar(dtype=np.bool_),
                "language_instruction": tfds.features.Text(),
            }
        )
    }
)


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a nested dictionary, by "outer/inner"."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


class Theirs(tfds.core.GeneratorBasedBuilder):
    """A dataset of three episodes, as TensorFlow Datasets writes it."""

    VERSION = tfds.core.Version("1.0.0")
    kept: dict[str, list[Any]]

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(builder=self, features=FEATURES)

    def _split_generators(self, _manager: Any) -> Any:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Any]]:
        rng = np.random.default_rng(0)
        self.kept = {}
        for number, length in enumerate((4, 7, 2)):
            steps = [
                {
                    "observation": {
                        "state": rng.normal(size=3).astype(np.float32),
                        "front": rng.integers(0, 256, (16, 24, 3), dtype=np.uint8),
                    },
                    "action": rng.uniform(-1, 1, 2).astype(np.float32),
                    "reward": np.float32(step == length - 2),
                    "is_terminal": step == length - 1,
                    "language_instruction": "push",
                }
                for step in range(length)
            ]
            self.kept[str(length)] = steps
            yield number, {"steps": steps}


def main() -> None:
    """Read, write, and say what was seen."""
    source, read, target, written = map(Path, sys.argv[1:])
    builder = tfds.builder_from_directory(str(source))
    columns: dict[str, list[Any]] = {}
    episodes = 0
    for episode in tfds.as_numpy(builder.as_dataset(split="train", shuffle_files=False)):
        episodes += 1
        for step in episode["steps"]:
            for name, value in flat(step):
                columns.setdefault(name, []).append(value)
        for name, value in flat(episode["episode_metadata"], "episode_metadata/"):
            columns.setdefault(name, []).append(value)
    stacked: dict[str, Any] = {name: np.stack(values) for name, values in columns.items()}
    np.savez(read, **stacked)
    print(f"tensorflow_datasets read {episodes} episodes, {len(stacked['reward'])} steps, {sorted(stacked)}")
    assert builder.info.splits["train"].num_examples == episodes

    theirs = Theirs(data_dir=str(target))
    theirs.download_and_prepare()
    kept: dict[str, Any] = {}
    for length, steps in theirs.kept.items():
        kept[f"{length}/state"] = np.stack([step["observation"]["state"] for step in steps])
        kept[f"{length}/front"] = np.stack([step["observation"]["front"] for step in steps])
        kept[f"{length}/action"] = np.stack([step["action"] for step in steps])
    np.savez(written, **kept)


if __name__ == "__main__":
    main()
