# SPDX-License-Identifier: Apache-2.0
"""Writes LeRobotDataset v3.0, complete behind every episode.

Each episode has files of its own, which the format allows, and appears with the last of them: so that a killed
recording is a dataset of the episodes before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole
from serl_rl.spec import DataError
from serl_rl.storage import tensors
from serl_rl.storage.pictures import encode_png

from serl_recording.episode import Episode, RecordingError, RecordingSpec
from serl_recording.format import Writer
from serl_recording.formats.lerobot import layout, statistics, tables
from serl_recording.formats.lerobot.statistics import Statistics
from serl_recording.formats.lerobot.video import encode_video
from serl_recording.optional import require

_INDEX = "__index_level_0__"  # how pandas names the column by which it finds rows


class LeRobotWriter(Writer):
    """Writes a dataset into a folder.

    Args:
        folder: that is not there, or empty.
        spec: of the episodes.
        pictures: video or png.

    Raises:
        RecordingError: the format cannot hold such episodes, or the folder cannot be made.
    """

    def __init__(self, folder: Path, spec: RecordingSpec, pictures: str = "video") -> None:
        self._pa = require("pyarrow", tables.FORMAT)
        self._folder, self._spec = folder, spec
        self._video = pictures == "video" and bool(spec.cameras)
        if self._video:
            require("av", tables.FORMAT)
        self._features = layout.features_of(spec, video=self._video)
        self._rate = layout.frame_rate(layout.fps_of(spec.rate))
        self._statistics: dict[str, Statistics] = {}
        self._episodes = self._frames = 0
        self._put(layout.SPEC, layout.spec_text(spec))
        self._put(layout.TASKS, self._tasks())
        self._put(layout.INFO, layout.info_text(spec, self._features, 0, 0))

    def append(self, episode: Episode) -> None:
        """Write an episode.

        Raises:
            DataError: it is not of the specification.
            RecordingError: it cannot be written.
        """
        episode.check(self._spec)
        columns = self._columns(episode)
        found = {key: statistics.of_rows(rows) for key, rows in columns.items()}
        place = {"chunk_index": self._episodes // layout.CHUNK, "file_index": self._episodes % layout.CHUNK}
        chunk, file = place["chunk_index"], place["file_index"]
        row: dict[str, Any] = {
            "episode_index": self._episodes,
            "tasks": [self._spec.task],
            "length": len(episode),
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + len(episode),
            "meta/episodes/chunk_index": chunk,
            "meta/episodes/file_index": file,
        }
        table = {key: tables.column_of(rows) for key, rows in columns.items()}
        for name in self._spec.cameras:
            key, rows = layout.key_of(name, self._spec.transitions.observation[name]), episode.observation[name][:-1]
            found[key] = statistics.of_pictures(rows)
            if self._video:
                self._put(layout.VIDEO.format(video_key=key, **place), encode_video(rows, self._rate))
                row |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file}
                row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": len(rows) / self._spec.rate}
            else:
                table[key] = self._picture_column(rows)
        total = {
            key: statistics.combined(self._statistics[key], each) if key in self._statistics else each
            for key, each in found.items()
        }
        rest = layout.REST.format(chunk_index=chunk, episode_index=self._episodes)
        self._put(rest, tensors.pack(*self._rest(episode)))
        self._put(layout.DATA.format(**place), tables.bytes_of(table))
        self._put(layout.STATS, statistics.text_of(total))
        for key, each in found.items():
            row |= {f"stats/{key}/{name}": values for name, values in each.tree.items()}
        self._put(layout.EPISODES.format(**place), tables.bytes_of({name: [value] for name, value in row.items()}))
        self._statistics = total
        self._episodes += 1
        self._frames += len(episode)
        self._put(layout.INFO, layout.info_text(self._spec, self._features, self._episodes, self._frames))

    def close(self, finished: bool) -> None:
        """Nothing is left to be done: the dataset is complete behind every episode."""

    def _columns(self, episode: Episode) -> dict[str, NDArray[Any]]:
        """The rows (n, k) of each feature that is no picture."""
        if episode.policy_version.max() >= 2**63:
            raise DataError("policy_version", "less than 2**63", str(episode.policy_version.max()))
        n = len(episode)
        last = np.arange(n) == n - 1
        entries = self._spec.transitions.observation
        vectors = {
            layout.key_of(name, entry): episode.observation[name][:-1]
            for name, entry in entries.items()
            if entry.kind == "vector"
        }
        columns: dict[str, NDArray[Any]] = {
            "action": episode.action,
            layout.REWARD: episode.reward,
            layout.DONE: last & episode.terminated,
            layout.TRUNCATED: last & episode.truncated,
            layout.INTERVENTION: episode.intervention,
            layout.POLICY_VERSION: episode.policy_version.astype(np.int64),
            layout.STAMP: episode.stamp[:-1],
            "timestamp": (np.arange(n) / self._spec.rate).astype(np.float32),
            "frame_index": np.arange(n),
            "episode_index": np.full(n, self._episodes),
            "index": self._frames + np.arange(n),
            "task_index": np.zeros(n, np.int64),
        }
        return vectors | {name: rows.reshape(n, -1) for name, rows in columns.items()}

    def _rest(self, episode: Episode) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """What the format has no place for: what was seen last, and whose episode it is."""
        arrays: dict[str, NDArray[Any]] = {"stamp": episode.stamp[-1:]}
        for name, rows in episode.observation.items():
            picture = name in self._spec.cameras
            arrays[f"observation.{name}"] = np.frombuffer(encode_png(rows[-1]), np.uint8) if picture else rows[-1]
        about = {name: getattr(episode, name) for name in ("stamped", "success", "demonstration", "actor", "number")}
        about["length"] = len(episode)
        return arrays, {"about": json.dumps(about)}

    def _picture_column(self, pictures: NDArray[np.uint8]) -> Any:
        type_ = self._pa.struct([("bytes", self._pa.binary()), ("path", self._pa.string())])
        rows = [
            {"bytes": encode_png(picture), "path": f"frame-{index:06d}.png"} for index, picture in enumerate(pictures)
        ]
        return self._pa.array(rows, type_)

    def _tasks(self) -> bytes:
        """The one task, in a table as pandas has them whose rows are found by a text."""
        text = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        number = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
        columns = [
            {"name": "task_index", "field_name": "task_index", **number},
            {"name": None, "field_name": _INDEX, **text},
        ]
        head = {"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}
        pandas = {"index_columns": [_INDEX], "column_indexes": [head], "columns": columns}
        table = {"task_index": self._pa.array([0], self._pa.int64()), _INDEX: [self._spec.task]}
        return tables.bytes_of(table, {b"pandas": json.dumps(pandas).encode()})

    def _put(self, name: str, data: bytes) -> None:
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be written: {error.strerror}") from error
