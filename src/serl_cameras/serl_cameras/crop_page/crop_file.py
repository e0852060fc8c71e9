# SPDX-License-Identifier: Apache-2.0
"""Writes a camera's crop into a task's file, and leaves every other byte of it as it is."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from serl_config.schema import ConfigError, build, read_yaml
from serl_config.strict_yaml import compose_yaml
from serl_robots.control.robot_limits import completed
from serl_robots.control.task_file import TaskFile, read_task
from serl_tasks.camera_view import CameraView

from serl_tasks import get_task

Crop = tuple[float, float, float, float]


def task_cameras(task: str) -> dict[str, CameraView]:
    """What a task sees, by the camera's name, as its file says now.

    Raises:
        ConfigError: there is no such task, its file is wrong, or it sees nothing.
    """
    return _load(read_task(task))


def save_crop(task: str, camera: str, crop: Crop | None) -> Path:
    """Write `cameras.<camera>.crop` into the task's file, in one step, and return the file's path.

    A task that has its cameras from the one it extends gets cameras of its own; the extended one stays as it is.

    Args:
        task: name of the task.
        camera: one of its cameras.
        crop: left, top, width, height as parts of the picture; None: the largest middle part that fits.

    Raises:
        ConfigError: no such task or camera, no such crop, or a file in which it cannot be written. Nothing is changed.
    """
    file = read_task(task)
    known = _load(file)
    if camera not in known:
        raise ConfigError(f"{file.path}: 'cameras': expected one of {', '.join(known)}, found {camera!r}")
    rounded = None if crop is None else _rounded(crop)
    path = file.path.resolve()  # an installed file may be a link to the one that a person edits
    try:
        text = path.read_bytes().decode()
        _write_if_right(path, _edited(text, file, camera, rounded), file, camera, rounded)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _edited(text: str, file: TaskFile, camera: str, crop: Crop | None) -> str:
    """The file's text with the crop in it."""
    # Its own nodes: those of the file lack the carriage returns, and would point elsewhere.
    cameras = _value(compose_yaml(text, str(file.path)), "cameras")
    line_end = "\r\n" if "\r\n" in text else "\n"
    if cameras is None:
        views = {name: dict(view) for name, view in file.data["cameras"].items()}
        views[camera]["crop"] = None if crop is None else list(crop)
        lines = [f"  {name}: {_flow(view)}" for name, view in views.items()]
        end = "" if text.endswith("\n") else line_end
        return text + end + line_end.join(["", "cameras:", *lines, ""])
    view = _value(cameras, camera)
    if not isinstance(view, yaml.MappingNode):
        raise ConfigError(f"{file.path}: 'cameras.{camera}': expected its size and crop, found none")
    value = "null" if crop is None else _flow(list(crop))
    for key, old in view.value:
        if key.value == "crop" and isinstance(old, yaml.SequenceNode) and not old.flow_style:
            return _replaced(text, key.end_mark.index, _end(old), f": {value}")  # may stand below the key
        if key.value == "crop":
            return _replaced(text, old.start_mark.index, _end(old), value)
    if view.flow_style:
        if not view.value:
            return _replaced(text, view.start_mark.index + 1, view.start_mark.index + 1, f"crop: {value}")
        end_of_last = _end(view.value[-1][1])
        return _replaced(text, end_of_last, end_of_last, f", crop: {value}")
    first_key = view.value[0][0]
    start_of_line = text.rfind("\n", 0, first_key.start_mark.index) + 1
    indent = text[start_of_line : first_key.start_mark.index]
    return _replaced(text, first_key.start_mark.index, first_key.start_mark.index, f"crop: {value}{line_end}{indent}")


def _write_if_right(path: Path, text: str, file: TaskFile, camera: str, crop: Crop | None) -> None:
    """Replace the file, if the new text says what it should and nothing else."""
    expected = dict(file.data)
    expected["cameras"] = {name: dict(view) for name, view in file.data["cameras"].items()}
    expected["cameras"][camera]["crop"] = None if crop is None else list(crop)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(text.encode())
            output.flush()
            os.fsync(output.fileno())
        try:
            data, root = read_yaml(new)
        except ConfigError:
            data, root = {}, file.root
        data.pop("extends", None)
        written = replace(file, own=data, root=root)
        if not data or written.data != expected:
            raise ConfigError(f"{path}: the crop of {camera} cannot be written without changing more; edit it by hand")
        _load(written)
        new.chmod(path.stat().st_mode)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _load(file: TaskFile) -> dict[str, CameraView]:
    data = completed(file)
    cameras = build(type(get_task(data["name"])), data, str(file.path), file.place).cameras
    if not cameras:
        raise ConfigError(f"{file.path}: 'cameras': expected at least one, the task sees nothing")
    return cameras


def _rounded(crop: Crop) -> Crop:
    """Four digits, less than a pixel of any camera, and still inside of the picture."""
    left, top = round(crop[0], 4), round(crop[1], 4)
    return left, top, round(min(crop[2], 1.0 - left), 4), round(min(crop[3], 1.0 - top), 4)


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends; that of a block ends for YAML only where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _replaced(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
