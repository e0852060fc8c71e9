# SPDX-License-Identifier: Apache-2.0
"""Writes RLDS: one file of records, one record an episode, and what TensorFlow Datasets has to know of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from serl_config.atomic_files import write_whole
from serl_rl.spec import DataError
from serl_rl.storage.pictures import encode_jpeg, encode_png

from serl_recording.episode import Episode, RecordingError, RecordingSpec
from serl_recording.format import Writer
from serl_recording.formats.rlds.example import Values, encode_example
from serl_recording.formats.rlds.features import INSTRUCTION, METADATA, OBSERVATION, features_tree
from serl_recording.formats.rlds.tfrecord import RecordWriter
from serl_recording.optional import require

NAME: Final = "episodes"
FEATURES: Final = "features.json"
INFO: Final = "dataset_info.json"
SPEC: Final = "serl_spec.json"
DATA: Final = f"{NAME}-train.tfrecord-00000-of-00001"


class RldsWriter(Writer):
    """Writes a dataset into a folder, ``tfds.builder_from_directory(folder)`` reads it.

    An episode of n steps has n + 1 in RLDS: the last one holds what was seen last, and its action and reward are 0.

    Args:
        folder: that is not there, or empty.
        spec: of the episodes.
        pictures: png or jpeg.

    Raises:
        RecordingError: the folder cannot be made.
        DataError: the format cannot hold such episodes.
    """

    def __init__(self, folder: Path, spec: RecordingSpec, pictures: str = "png") -> None:
        require("google_crc32c", "an RLDS dataset")
        self._folder, self._spec = folder, spec
        self._encode = encode_jpeg if pictures == "jpeg" else encode_png
        self._episodes = 0
        for name in spec.transitions.observation:
            if "/" in name:
                raise DataError("observation", "names without /, which RLDS takes for groups", name)
        try:
            folder.mkdir(exist_ok=True)
            own = {"transitions": json.loads(spec.transitions.to_json()), "rate": spec.rate, "task": spec.task}
            write_whole(folder / SPEC, json.dumps(own, indent=1).encode())
            write_whole(folder / FEATURES, json.dumps(features_tree(spec, pictures), indent=4).encode())
        except OSError as error:
            raise RecordingError(f"{folder}: cannot be written: {error.strerror}") from error
        self._records = RecordWriter(folder / DATA)
        self._write_info()

    def append(self, episode: Episode) -> None:
        """Write an episode as one record.

        Raises:
            DataError: it is not of the specification.
            RecordingError: it cannot be written.
        """
        episode.check(self._spec)
        self._records.append(encode_example(self._features(episode)))
        self._episodes += 1
        self._write_info()

    def close(self, finished: bool) -> None:
        """Close the file; the dataset is complete behind every episode."""
        self._records.close()

    def _features(self, episode: Episode) -> dict[str, Values]:
        if episode.policy_version.max() >= 2**63:
            raise DataError("policy_version", "less than 2**63", str(episode.policy_version.max()))
        n = len(episode)
        steps = np.arange(n + 1)
        last = steps == n
        discount = np.ones(n + 1, np.float32)
        discount[n - 1 :] = not episode.terminated

        def behind(rows: Any) -> Any:
            """The rows of n actions, and zeros for the step behind them."""
            return np.concatenate([rows, np.zeros_like(rows[:1])])

        features: dict[str, Values] = {
            "steps/action": behind(episode.action),
            "steps/reward": behind(episode.reward),
            "steps/discount": discount,
            "steps/is_first": steps == 0,
            "steps/is_last": last,
            "steps/is_terminal": last & episode.terminated,
            "steps/intervention": behind(episode.intervention),
            "steps/policy_version": behind(episode.policy_version),
            "steps/stamp_ns": episode.stamp,
            f"steps/{INSTRUCTION}": [self._spec.task.encode()] * (n + 1),
        }
        for name, rows in episode.observation.items():
            entry = self._spec.transitions.observation[name]
            encoded = entry.kind == "image" and entry.shape[2] in (1, 3)
            features[f"steps/{OBSERVATION}{name}"] = [self._encode(each) for each in rows] if encoded else rows
        for name, dtype in METADATA.items():
            value = getattr(episode, name)
            features[f"episode_metadata/{name}"] = [value.encode()] if dtype == "string" else np.array([value])
        return features

    def _write_info(self) -> None:
        """What is in the file so far: TensorFlow Datasets reads no more than this says."""
        split = {
            "name": "train",
            "numBytes": str(self._records.end),
            "shardLengths": [str(self._episodes)],
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
        info = {"name": NAME, "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
        try:
            write_whole(self._folder / INFO, json.dumps(info, indent=2).encode())
        except OSError as error:
            raise RecordingError(f"{self._folder / INFO}: cannot be written: {error.strerror}") from error
