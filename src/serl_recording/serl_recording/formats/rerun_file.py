# SPDX-License-Identifier: Apache-2.0
"""Recordings for rerun's viewer, which are written and not read: pictures, states, actions and rewards over time.

Timelines: `step` and `episode` count, `time` is when it was observed. Nothing of learning is meant to come from such a
file: convert from the recording that it was made of.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from serl_config.text import printable
from serl_rl.storage.pictures import encode_jpeg, encode_png

from serl_recording.episode import Episode, RecordingError, RecordingSpec
from serl_recording.format import Writer
from serl_recording.optional import require

NAME: Final = "a file for rerun's viewer"
EXTRA: Final = "rerun"
_VECTOR: Final = 1  # dimensions of what is drawn as curves
_MOST_CURVES: Final = 64  # of one entry: what has more is left out, as features of pictures are


class RerunWriter(Writer):
    """Writes an ``.rrd`` file; what was appended can be seen although the writer is killed.

    Args:
        path: of the file.
        spec: of the episodes.
        pictures: jpeg or png.

    Raises:
        RecordingError: it cannot be created, or rerun-sdk is not installed.
    """

    def __init__(self, path: Path, spec: RecordingSpec, pictures: str = "jpeg") -> None:
        self._rerun = rerun = require("rerun", NAME, EXTRA)
        self._spec, self._path = spec, path
        self._encode = encode_jpeg if pictures == "jpeg" else encode_png
        self._media = f"image/{pictures}"
        self._step = self._episode = 0
        try:
            path.touch(exist_ok=False)  # rerun itself says nothing of a file that it cannot write
        except OSError as error:
            raise RecordingError(f"{path}: cannot be created: {error.strerror}") from error
        self._stream = rerun.RecordingStream(f"serl {spec.task}".strip(), recording_id=path.stem)
        try:
            self._stream.save(path)
        except RuntimeError as error:
            raise RecordingError(f"{path}: {printable(str(error), 200)}; is the disk full?") from error
        self._curves = {
            name: list(spec.entry_names(name))
            for name, entry in spec.transitions.observation.items()
            if entry.kind != "image" and len(entry.shape) == _VECTOR and entry.elements <= _MOST_CURVES
        }
        for name, names in (*self._curves.items(), ("action", list(spec.action_names))):
            self._stream.log(name, rerun.SeriesLines(names=names), static=True)

    def append(self, episode: Episode) -> None:
        """Write one episode.

        Raises:
            DataError: it is not of the specification.
            RecordingError: it cannot be written.
        """
        episode.check(self._spec)
        rerun, stream, n = self._rerun, self._stream, len(episode)
        seen, acted = np.arange(n + 1), np.arange(n)
        for name, names in self._curves.items():
            self._send(name, episode, seen, rerun.Scalars, episode.observation[name].reshape(n + 1, len(names)))
        self._send("action", episode, acted, rerun.Scalars, episode.action)
        for name, rows in (("reward", episode.reward), ("person leads", episode.intervention)):
            self._send(name, episode, acted, rerun.Scalars, rows.astype(np.float64)[:, None])
        for camera in self._spec.cameras:
            for index, picture in enumerate(episode.observation[camera]):
                stream.set_time("step", sequence=self._step + index)
                stream.set_time("episode", sequence=self._episode)
                stream.set_time("time", timestamp=np.datetime64(int(episode.stamp[index]), "ns"))
                stream.log(camera, rerun.EncodedImage(contents=self._encode(picture), media_type=self._media))
        words = f"{episode.actor} {episode.number}: {'success' if episode.success else 'no success'}"
        stream.set_time("step", sequence=self._step)
        stream.set_time("episode", sequence=self._episode)
        stream.set_time("time", timestamp=np.datetime64(int(episode.stamp[0]), "ns"))
        stream.log("episode", rerun.TextLog(words))
        before = self._path.stat().st_size
        try:
            stream.flush()
        except RuntimeError as error:
            raise RecordingError(f"{self._path}: {printable(str(error), 200)}; is the disk full?") from error
        if self._path.stat().st_size == before:
            raise RecordingError(f"{self._path}: the file has not grown; is the disk full?")
        self._step, self._episode = self._step + n + 1, self._episode + 1

    def close(self, finished: bool) -> None:
        """Close the file; it is complete behind every episode.

        Raises:
            RecordingError: rerun, which says nothing of a full disk, has not written everything.
        """
        self._stream.disconnect()
        if finished:
            self._check()

    def _check(self) -> None:
        """Read what was written, and count it."""
        found: Counter[str] = Counter()
        try:
            for part in require("rerun.chunk", NAME, EXTRA).RrdReader(self._path).stream():
                if not part.is_static:
                    found[part.entity_path.strip("/").replace("\\", "")] += part.num_rows
        except (RuntimeError, OSError, ValueError) as error:
            raise RecordingError(
                f"{self._path}: cannot be read again, is the disk full? {printable(str(error), 200)}"
            ) from error
        moments, acts = self._step, self._step - self._episode
        expected = dict.fromkeys((*self._curves, *self._spec.cameras), moments)
        expected |= dict.fromkeys(("action", "reward", "person leads"), acts) | {"episode": self._episode}
        for name, rows in expected.items():
            if found[name] != rows:
                raise RecordingError(
                    f"{self._path}: {name}: expected {rows} rows, found {found[name]}; is the disk full?"
                )

    def _send(self, name: str, episode: Episode, steps: Any, kind: Any, rows: Any) -> None:
        """One entry of a whole episode at once: rows (m, k) at `steps` (m,) of it."""
        rerun = self._rerun
        times = [
            rerun.TimeColumn("step", sequence=self._step + steps),
            rerun.TimeColumn("episode", sequence=np.full(len(steps), self._episode)),
            rerun.TimeColumn("time", timestamp=episode.stamp[steps].astype("datetime64[ns]")),
        ]
        columns = kind.columns(scalars=np.asarray(rows, np.float64).reshape(-1))
        self._stream.send_columns(name, indexes=times, columns=columns.partition([rows.shape[1]] * len(steps)))
