# SPDX-License-Identifier: Apache-2.0
"""Reads LeRobotDataset v3.0 and v2.1, ours with everything, those of others as far as they say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes, read_text
from serl_config.strict_json import parse_json
from serl_rl.spec import DataError
from serl_rl.storage import tensors
from serl_rl.storage.pictures import decode_picture

from serl_recording.episode import UNKNOWN_ACTOR, Episode, RecordingError, RecordingSpec, check_budget, nominal_stamps
from serl_recording.format import Reader, Report, refuse
from serl_recording.formats.lerobot import layout
from serl_recording.formats.lerobot.layout import Info
from serl_recording.formats.lerobot.tables import FORMAT, MAX_ROWS, TableFile, rows_of
from serl_recording.formats.lerobot.video import decode_video
from serl_recording.optional import require

REST_LIMIT: Final = 2**28
_LINES_LIMIT: Final = 2**28
_LONGEST_VIDEO: Final = 1e7
"""[s]"""


@dataclass(frozen=True)
class _Row:
    """Where an episode lies.

    data: path of its table; videos: key -> path, and the time of its first picture [s]
    """

    index: int
    length: int
    task: str
    data: Path
    videos: dict[str, tuple[Path, float]]


class LeRobotReader(Reader):
    """Reads a dataset.

    A dataset of others has no observation behind the last action of an episode; the one before it is taken twice. It
    need not say rewards (then they are 0), nor who led.

    Args:
        folder: of the dataset.
        task: where it says none.

    Raises:
        RecordingError: it cannot be read.
    """

    def __init__(self, folder: Path, task: str = "") -> None:
        require("pyarrow", "a LeRobot dataset")
        self._folder = folder
        self._info: Info = layout.read_info(folder)
        self._own = (folder / layout.SPEC).exists()
        self._spec, self._keys = layout.read_spec(folder, self._info)
        self._rows = self._old_rows() if self._info.version == layout.OLD_VERSION else self._new_rows()
        self._rows.sort(key=lambda row: row.index)
        if not self._own:
            tasks = {row.task for row in self._rows} - {""}
            self._spec = replace(self._spec, task=(tasks.pop() if len(tasks) == 1 else task)[:1000])
        self._open: TableFile | None = None

    @property
    def spec(self) -> RecordingSpec:
        """What its features say, and more where we have written it."""
        return self._spec

    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every episode whose files can be read."""
        for row in self._rows:
            try:
                episode = self._episode(row)
            except RecordingError as error:
                report(RecordingError(f"episode {row.index} was left out: {error}"))
            except DataError as error:
                report(RecordingError(f"{self._folder}: episode {row.index} was left out: {error}"))
            else:
                yield episode
        if len(self._rows) < self._info.episodes:
            report(
                RecordingError(
                    f"{self._folder}: expected {self._info.episodes} episodes, as {layout.INFO} says, found tables of "
                    f"{len(self._rows)}"
                )
            )

    def _new_rows(self) -> list[_Row]:
        rows: list[_Row] = []
        for path in sorted((self._folder / "meta/episodes").glob("*/*.parquet")):
            file = TableFile(path)
            table = file.read([name for name in file.names if not name.startswith("stats/")])
            if len(rows) + len(table) > MAX_ROWS:
                raise RecordingError(f"{path}: expected at most {MAX_ROWS} episodes, found more")
            try:
                rows += [self._new_row(each) for each in table.to_pylist()]
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise RecordingError(f"{path}: expected where an episode lies ({error!s:.80})") from error
        return rows

    def _new_row(self, row: dict[str, Any]) -> _Row:
        def place(prefix: str) -> dict[str, int]:
            return {name: int(row[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}

        videos = {}
        for key in self._video_keys():
            path = self._folder / layout.VIDEO.format(video_key=key, **place(f"videos/{key}"))
            begin = float(row[f"videos/{key}/from_timestamp"])
            if not 0 <= begin <= _LONGEST_VIDEO:
                raise ValueError(f"a video from {begin} s on")
            videos[key] = (path, begin)
        tasks = row["tasks"] or [""]
        data = self._folder / layout.DATA.format(**place("data"))
        return _Row(int(row["episode_index"]), int(row["length"]), str(tasks[0]), data, videos)

    def _old_rows(self) -> list[_Row]:
        path = self._folder / "meta/episodes.jsonl"
        rows: list[_Row] = []
        try:
            for line in read_text(path, _LINES_LIMIT).splitlines():
                if not line.strip():
                    continue
                if len(rows) == MAX_ROWS:
                    raise RecordingError(f"{path}: expected at most {MAX_ROWS} episodes, found more")
                tree = parse_json(line)
                index, length = int(tree["episode_index"]), int(tree["length"])
                place = {"episode_chunk": index // layout.CHUNK, "episode_index": index}
                videos = {
                    key: (self._folder / layout.OLD_VIDEO.format(video_key=key, **place), 0.0)
                    for key in self._video_keys()
                }
                data = self._folder / layout.OLD_DATA.format(**place)
                rows.append(_Row(index, length, str((tree.get("tasks") or [""])[0]), data, videos))
        except FileError as error:
            raise RecordingError(f"{path}: expected the episodes of the dataset: {error.reason}") from error
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RecordingError(f"{path}: expected an episode in line {len(rows) + 1} ({error!s:.80})") from error
        return rows

    def _video_keys(self) -> list[str]:
        return [key for key in self._keys.values() if self._info.features[key]["dtype"] == "video"]

    def _episode(self, row: _Row) -> Episode:
        check_budget(self._spec, row.length)
        if self._open is None or self._open.path != row.data:
            self._open = TableFile(row.data)
        wanted = {*self._keys.values(), "action", "episode_index", layout.SUCCESS, *layout.OWN_COLUMNS}
        table = self._open.episode(row.index, [name for name in self._open.names if name in wanted])
        if "action" not in table.column_names:
            raise RecordingError(f"{row.data}: expected a column action, found none")
        if len(table) != row.length:
            raise RecordingError(f"{row.data}: expected {row.length} rows, found {len(table)}")
        observation = {name: self._entry(name, key, row, table) for name, key in self._keys.items()}
        columns = _Columns(row.data, table)
        n = row.length
        reward = columns.read(layout.REWARD, "float32", np.zeros(n))
        done = columns.read(layout.DONE, "bool", np.zeros(n))
        truncated = columns.read(layout.TRUNCATED, "bool", np.zeros(n))
        success = columns.read(layout.SUCCESS, "bool", reward > 0)
        terminated = bool(done[-1])
        plain = Episode(
            observation=observation,
            action=rows_of(table["action"], self._spec.transitions.action_dim, "float32", f"{row.data}: action"),
            reward=reward,
            intervention=columns.read(layout.INTERVENTION, "bool", np.zeros(n)),
            policy_version=columns.read(layout.POLICY_VERSION, "int64", np.zeros(n)).astype(np.uint64),
            stamp=nominal_stamps(n + 1, self._spec.rate),
            stamped=False,
            terminated=terminated,
            truncated=bool(truncated[-1]) if self._own else not terminated,
            success=bool(success[-1]),
            demonstration=True,
            actor=UNKNOWN_ACTOR,
            number=row.index,
        )
        episode = self._with_rest(plain, row, columns) if self._own else plain
        episode.check(self._spec)
        return episode

    def _entry(self, name: str, key: str, row: _Row, table: Any) -> NDArray[Any]:
        """The rows (n + 1, ...) of an entry of the observation, the last one twice."""
        entry = self._spec.transitions.observation[name]
        if key in row.videos:
            path, begin = row.videos[key]
            rows = decode_video(path, begin, row.length, self._info.fps, entry.shape)
        elif key not in table.column_names:
            raise RecordingError(f"{row.data}: expected a column {key}, found none")
        elif entry.kind == "image":
            if not require("pyarrow.types", FORMAT).is_struct(table[key].type):
                raise RecordingError(f"{row.data}: {key}: expected bytes of a picture, found {table[key].type}")
            rows = np.empty((row.length, *entry.shape), np.uint8)
            for index, cell in enumerate(table[key]):
                data = (cell.as_py() or {}).get("bytes")
                if not isinstance(data, bytes):
                    raise DataError(f"{key}[{index}]", "bytes of a picture", type(data).__name__)
                rows[index] = decode_picture(data, entry.shape, f"{key}[{index}]")
        else:
            rows = rows_of(table[key], entry.elements, "float32", f"{row.data}: {key}")
        return np.concatenate([rows, rows[-1:]])

    def _with_rest(self, episode: Episode, row: _Row, columns: _Columns) -> Episode:
        """The episode with what the format has no place for."""
        name = layout.REST.format(chunk_index=row.index // layout.CHUNK, episode_index=row.index)
        path = self._folder / name
        if not path.exists():  # appended by somebody else
            return episode
        try:
            arrays, metadata = tensors.unpack(read_bytes(path, REST_LIMIT))
            tensors.expect_seal(metadata)
            about = parse_json(metadata["about"])
            if about["length"] != row.length:
                raise DataError("length", str(row.length), str(about["length"]))
            for each, entry in self._spec.transitions.observation.items():
                last = arrays[f"observation.{each}"]
                if entry.kind == "image":
                    last = decode_picture(last.tobytes(), entry.shape, each)
                episode.observation[each][-1] = last
            stamp = columns.read(layout.STAMP, "int64", episode.stamp[:-1])
            return replace(
                episode,
                stamp=np.concatenate([stamp, arrays["stamp"]]),
                stamped=bool(about["stamped"]),
                success=bool(about["success"]),
                demonstration=bool(about["demonstration"]),
                actor=str(about["actor"]),
                number=int(about["number"]),
            )
        except FileError as error:
            raise RecordingError(f"{path}: cannot be read: {error.reason}") from error
        except (DataError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise RecordingError(f"{path}: expected the end of an episode ({error!s:.200})") from error


class _Columns:
    """Numbers of a table, one a row."""

    def __init__(self, path: Path, table: Any) -> None:
        self._path, self._table = path, table

    def read(self, name: str, dtype: str, otherwise: NDArray[Any]) -> NDArray[Any]:
        """A column (n,), or what stands for it where there is none."""
        if name not in self._table.column_names:
            return otherwise.astype(dtype)
        return rows_of(self._table[name], 1, dtype, f"{self._path}: {name}").reshape(-1)
