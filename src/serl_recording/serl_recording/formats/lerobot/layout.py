# SPDX-License-Identifier: Apache-2.0
"""What lies where in a LeRobotDataset, and its features.

What the format has no place for lies in ``meta/serl``, where LeRobot looks at nothing: the specification of a
recording, and of each episode what was seen last, behind its last action.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from serl_config.files import FileError, read_bytes
from serl_config.strict_json import JsonError, parse_json
from serl_rl.spec import ArraySpec, DataError, TransitionSpec

from serl_recording.episode import MAX_RATE, RecordingError, RecordingSpec

VERSION: Final = "v3.0"
OLD_VERSION: Final = "v2.1"

CHUNK: Final = 1000
"""Files in a folder."""
DATA: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO: Final = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
OLD_DATA: Final = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
OLD_VIDEO: Final = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
EPISODES: Final = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO: Final = "meta/info.json"
STATS: Final = "meta/stats.json"
TASKS: Final = "meta/tasks.parquet"
SPEC: Final = "meta/serl/spec.json"
REST: Final = "meta/serl/chunk-{chunk_index:03d}/episode-{episode_index:06d}.safetensors"

INFO_LIMIT: Final = 2**24
"""[bytes] of a JSON file."""

REWARD: Final = "next.reward"
DONE: Final = "next.done"
TRUNCATED: Final = "next.truncated"
SUCCESS: Final = "next.success"
INTERVENTION: Final = "complementary_info.is_intervention"
POLICY_VERSION: Final = "complementary_info.policy_version"
STAMP: Final = "complementary_info.stamp_ns"

OWN_COLUMNS: Final[Mapping[str, str]] = {
    REWARD: "float32",
    DONE: "bool",
    TRUNCATED: "bool",
    INTERVENTION: "bool",
    POLICY_VERSION: "int64",
    STAMP: "int64",
}
INDEX_COLUMNS: Final[Mapping[str, str]] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}

_PICTURES: Final = "observation.images."


@dataclass(frozen=True)
class Info:
    """What ``meta/info.json`` says.

    version: of the format
    fps: frames per second [Hz]
    features: name -> {"dtype", "shape", "names"}
    episodes: how many there are
    """

    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    episodes: int


def key_of(name: str, entry: ArraySpec) -> str:
    """Name of the feature that an entry of the observation is."""
    plain = name.replace("/", ".")
    return f"{_PICTURES}{plain}" if entry.kind == "image" else f"observation.{plain}"


def features_of(spec: RecordingSpec, *, video: bool) -> dict[str, dict[str, Any]]:
    """The features of a recording.

    Raises:
        RecordingError: there are entries that the format cannot hold.
    """
    features: dict[str, dict[str, Any]] = {}
    for name, entry in spec.transitions.observation.items():
        if entry.kind == "image":
            _check_picture(name, entry, video)
            kind, names = "video" if video else "image", ["height", "width", "channels"]
        elif entry.kind == "vector":
            kind, names = "float32", list(spec.entry_names(name))
        else:
            what = "features of an encoder" if entry.kind == "features" else f"{entry.dtype} {entry.shape}"
            raise RecordingError(
                f"{name}: a LeRobot dataset holds pictures and vectors, and not {what}: leave it out with "
                f"--without {name}, or convert to rlds or serl"
            )
        key = key_of(name, entry)
        if key in features:
            raise RecordingError(f"{name}: two entries of the observation would both be {key}: give --without {name}")
        features[key] = {"dtype": kind, "shape": list(entry.shape), "names": names}
    features["action"] = {
        "dtype": "float32",
        "shape": [spec.transitions.action_dim],
        "names": list(spec.action_names),
    }
    for columns in (OWN_COLUMNS, INDEX_COLUMNS):
        features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in columns.items()}
    return features


def _check_picture(name: str, entry: ArraySpec, video: bool) -> None:
    height, width, channels = entry.shape
    if channels not in ((3,) if video else (1, 3)):
        raise RecordingError(f"{name}: expected pictures in RGB, found {channels} channels: give --without {name}")
    if video and (height % 2 or width % 2):
        raise RecordingError(f"{name}: a video has even sizes, and this is {height}x{width}: give --pictures png")


def fps_of(rate: float) -> int | float:
    """Frames per second as the format has them: a whole number where it is one."""
    return int(rate) if rate == int(rate) else rate


def frame_rate(fps: float) -> Fraction:
    """Frames per second as a fraction of small numbers."""
    return Fraction(fps).limit_denominator(10_000)


def info_text(spec: RecordingSpec, features: Mapping[str, Any], episodes: int, frames: int) -> bytes:
    """``meta/info.json``."""
    tree = {
        "codebase_version": VERSION,
        "robot_type": str(spec.transitions.meaning.get("robot", "")) or None,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": min(episodes, 1),
        "chunks_size": CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps_of(spec.rate),
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO if any(each["dtype"] == "video" for each in features.values()) else None,
        "features": features,
    }
    return json.dumps(tree, indent=4).encode()


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises RecordingError where there is none."""
    try:
        return parse_json(read_bytes(path, INFO_LIMIT), size=INFO_LIMIT, finite=False)
    except FileError as error:
        raise RecordingError(f"{path}: expected a part of a LeRobot dataset: {error.reason}") from error
    except JsonError as error:
        raise RecordingError(f"{path}: {error}") from error


def read_info(folder: Path) -> Info:
    """What a dataset says of itself.

    Raises:
        RecordingError: it says nothing, or has another version or layout than is read here.
    """
    path = folder / INFO
    tree = read_json(path)
    try:
        version, fps = str(tree["codebase_version"]), float(tree["fps"])
        features = {str(name): dict(each) for name, each in tree["features"].items()}
        for name, each in features.items():
            if "/" in name:
                raise ValueError(f"a feature {name!r:.40}")
            each["shape"] = tuple(int(size) for size in each["shape"])
            each["dtype"] = str(each["dtype"])
            if each["dtype"] in ("image", "video") and _channels_first(each.get("names")) and len(each["shape"]) == 3:
                each["shape"] = (*each["shape"][1:], each["shape"][0])  # the pictures themselves are the same
        if not 0 < fps <= MAX_RATE:  # NaN is refused, too
            raise ValueError(f"{fps} frames per second")
        episodes = int(tree["total_episodes"])
        paths = (tree.get("data_path"), tree.get("video_path"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecordingError(f"{path}: expected what a LeRobot dataset says of itself ({error!s:.80})") from error
    expected = {VERSION: (DATA, VIDEO), OLD_VERSION: (OLD_DATA, OLD_VIDEO)}.get(version)
    if expected is None:
        raise RecordingError(f"{path}: expected version {VERSION} or {OLD_VERSION}, found {version!r:.20}")
    if paths[0] != expected[0] or paths[1] not in (expected[1], None):
        raise RecordingError(f"{path}: expected files where LeRobot puts them, {expected}, found {paths!s:.200}")
    return Info(version, fps, features, episodes)


def spec_text(spec: RecordingSpec) -> bytes:
    """``meta/serl/spec.json``: the specification as it is."""
    tree = {"transitions": json.loads(spec.transitions.to_json()), "rate": spec.rate, "task": spec.task}
    return json.dumps(tree, indent=1).encode()


def read_spec(folder: Path, info: Info) -> tuple[RecordingSpec, dict[str, str]]:
    """The specification of a dataset, and the name of the feature that each entry of its observation is.

    Raises:
        RecordingError: its features contradict what it says of itself, or hold nothing to learn from.
    """
    try:
        spec = _stored_spec(folder) if (folder / SPEC).exists() else _derived_spec(info)
        keys = {name: key_of(name, entry) for name, entry in spec.transitions.observation.items()}
        if not (folder / SPEC).exists():
            keys = {_name_of(key): key for key in _observations(info)}
        for name, entry in spec.transitions.observation.items():
            found = info.features.get(keys[name], {"dtype": "nothing", "shape": ()})
            if found["shape"] != entry.shape:
                raise DataError(keys[name], f"shape {entry.shape}", f"{found['dtype']} {found['shape']}")
        found = info.features.get("action", {"dtype": "nothing", "shape": ()})
        if found["shape"] != (spec.transitions.action_dim,):
            raise DataError("action", f"shape ({spec.transitions.action_dim},)", f"{found['dtype']} {found['shape']}")
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{folder / INFO}: {error}") from error
    return spec, keys


def _stored_spec(folder: Path) -> RecordingSpec:
    tree = read_json(folder / SPEC)
    transitions = TransitionSpec.from_json(json.dumps(tree["transitions"]))
    return RecordingSpec(transitions, float(tree["rate"]), str(tree["task"]))


def _derived_spec(info: Info) -> RecordingSpec:
    """The specification that the features of a dataset of others amount to."""
    entries = {}
    for key in _observations(info):
        feature = info.features[key]
        picture = feature["dtype"] in ("image", "video")
        entries[_name_of(key)] = ArraySpec(feature["shape"], "uint8" if picture else "float32")
    action = info.features.get("action")
    if action is None or len(action["shape"]) != 1:
        raise DataError("action", "a feature of shape (A,)", str(action and action["shape"]))
    meaning: dict[str, Any] = {"control_period": 1.0 / info.fps if info.fps > 0 else 0.0}
    for name, key in (("action", "action"), ("state", "observation.state")):
        names = _component_names(info.features.get(key, {}).get("names"))
        if names:
            meaning[name] = [{"name": each} for each in names]
    return RecordingSpec(TransitionSpec(entries, action["shape"][0], meaning=meaning), info.fps)


def _observations(info: Info) -> list[str]:
    """Features that are seen: pictures (H, W, C), and vectors of floats."""
    return [
        key
        for key, feature in sorted(info.features.items())
        if key.startswith("observation.")
        and (
            (feature["dtype"] in ("image", "video") and len(feature["shape"]) == 3)
            or (feature["dtype"] in ("float32", "float64") and len(feature["shape"]) == 1)
        )
    ]


def _channels_first(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and names[0] in ("channel", "channels", "c")


def _name_of(key: str) -> str:
    return key.removeprefix(_PICTURES).removeprefix("observation.")


def _component_names(names: Any) -> list[str]:
    """Names of the values of a vector, which are a list, or lists by group, or places by name."""
    if isinstance(names, dict):
        if all(isinstance(each, int) for each in names.values()):
            names = sorted(names, key=names.__getitem__)
        else:
            names = [each for group in names.values() if isinstance(group, list) for each in group]
    return [str(each) for each in names] if isinstance(names, list) else []
