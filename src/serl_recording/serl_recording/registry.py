# SPDX-License-Identifier: Apache-2.0
"""Which format a recording has, and who reads and writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serl_config.files import FileError, open_file

from serl_recording.episode import RecordingError, RecordingSpec
from serl_recording.format import Reader, Writer


@dataclass(frozen=True)
class ReadSettings:
    """What a recording may not say of itself.

    rate: control steps per second [Hz]; None: it has to say it
    task: name of the task, where it says none
    """

    rate: float | None = None
    task: str = ""


@dataclass(frozen=True)
class WriteSettings:
    """How a recording is written.

    pictures: jpeg, raw, png or video; empty: what the format is usually written with
    """

    pictures: str = ""


SAYS_ALL: Final = ReadSettings()
USUAL: Final = WriteSettings()


@dataclass(frozen=True)
class Format:
    """A format of recordings.

    title: what it is called
    found: whether a path looks like one; reads no more than names and the first bytes
    reader: opens one
    writer: begins one; None: it is only read
    pictures: ways to write pictures, the usual one first
    suffix: of the path that is a recording of this format to be written; empty: a folder
    """

    title: str
    found: Callable[[Path], bool]
    reader: Callable[[Path, ReadSettings], Reader]
    writer: Callable[[Path, RecordingSpec, WriteSettings], Writer] | None = None
    pictures: tuple[str, ...] = ()
    suffix: str = ""


def format_of(path: Path) -> str:
    """Name of the format of a recording, by what is in the folder or the first bytes of the file.

    Raises:
        RecordingError: there is nothing, or nothing that looks like one.
    """
    if not path.exists():
        raise RecordingError(f"{path}: expected a recording, found nothing")
    for name, format_ in FORMATS.items():
        if format_.found(path):
            return name
    known = ", ".join(f"{name} ({each.title})" for name, each in FORMATS.items())
    raise RecordingError(f"{path}: expected a recording, found none of {known}")


def open_recording(path: Path, settings: ReadSettings = SAYS_ALL) -> Reader:
    """Open a recording of whatever format.

    Raises:
        RecordingError: there is none, or it cannot be read.
    """
    return FORMATS[format_of(path)].reader(path, settings)


def target_format(path: Path, name: str = "") -> str:
    """Name of the format to write: the given one, or the one that the suffix of the path names.

    Raises:
        RecordingError: it cannot be told, or is not written.
    """
    written = {each: format_ for each, format_ in FORMATS.items() if format_.writer is not None}
    if name:
        if name not in written:
            raise RecordingError(f"--to: expected one of {', '.join(written)}, found {name!r}")
        return name
    for each, format_ in written.items():
        if format_.suffix and path.name.endswith(format_.suffix):
            return each
    raise RecordingError(f"{path}: its name does not say the format; give --to with one of {', '.join(written)}")


def check_free(path: Path, name: str) -> None:
    """Raise RecordingError unless a recording of a format can be made at a path, where nothing is lost."""
    empty = not FORMATS[name].suffix and path.is_dir() and not any(path.iterdir())
    if (path.exists() or path.is_symlink()) and not empty:
        raise RecordingError(f"{path} exists: choose another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise RecordingError(f"{path}: there is no folder {path.absolute().parent}")


def create_recording(path: Path, name: str, spec: RecordingSpec, settings: WriteSettings = USUAL) -> Writer:
    """Begin a recording where there is nothing yet, or an empty folder.

    Args:
        path: of the file or folder.
        name: of the format.
        spec: of the episodes.
        settings: how it is written.

    Raises:
        RecordingError: there is something, it cannot be created, or the format cannot hold such episodes.
    """
    format_ = FORMATS[target_format(path, name)]
    check_free(path, name)
    pictures = settings.pictures or format_.pictures[0]
    if pictures not in format_.pictures:
        raise RecordingError(
            f"--pictures: expected one of {', '.join(format_.pictures)} for {name}, found {settings.pictures!r}"
        )
    assert format_.writer is not None
    return format_.writer(path, spec, WriteSettings(pictures))


def _begins_with(path: Path, magic: bytes) -> bool:
    if not path.is_file():
        return False
    try:
        with open_file(path) as file:
            return file.read(len(magic)) == magic
    except FileError:
        return False


def _demonstration_reader(path: Path, settings: ReadSettings) -> Reader:
    from serl_recording.formats.demonstration_file import DemonstrationReader

    return DemonstrationReader(path, settings.rate)


def _demonstration_writer(path: Path, spec: RecordingSpec, settings: WriteSettings) -> Writer:
    from serl_recording.formats.demonstration_file import DemonstrationWriter

    return DemonstrationWriter(path, spec, "raw" if settings.pictures == "raw" else "jpeg")


def _is_journal(path: Path) -> bool:
    return path.is_dir() and ((path / "journal").is_dir() or any(path.glob("[0-9]*.segment")))


def _journal_reader(path: Path, settings: ReadSettings) -> Reader:
    from serl_recording.formats.journal import JournalReader

    return JournalReader(path, settings.rate, settings.task)


def _is_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def _lerobot_reader(path: Path, settings: ReadSettings) -> Reader:
    from serl_recording.formats.lerobot.reader import LeRobotReader

    return LeRobotReader(path, settings.task)


def _lerobot_writer(path: Path, spec: RecordingSpec, settings: WriteSettings) -> Writer:
    from serl_recording.formats.lerobot.writer import LeRobotWriter

    return LeRobotWriter(path, spec, settings.pictures)


def _rlds_folder(path: Path) -> Path | None:
    """The folder itself, or the one of its newest version, where TensorFlow Datasets puts it."""
    if (path / "features.json").exists():
        return path
    found = [file.parent for file in path.glob("*/features.json")]
    return max(found, key=_version, default=None)


def _version(path: Path) -> tuple[list[int], str]:
    """To order folders by: 1.10.0 is newer than 1.9.0."""
    return [int(part) for part in re.findall(r"[0-9]{1,9}", path.name)], path.name


def _is_rlds(path: Path) -> bool:
    return path.is_dir() and _rlds_folder(path) is not None


def _rlds_reader(path: Path, settings: ReadSettings) -> Reader:
    from serl_recording.formats.rlds.reader import RldsReader

    return RldsReader(_rlds_folder(path) or path, settings.rate, settings.task)


def _rlds_writer(path: Path, spec: RecordingSpec, settings: WriteSettings) -> Writer:
    from serl_recording.formats.rlds.writer import RldsWriter

    return RldsWriter(path, spec, settings.pictures)


def _is_pickle(path: Path) -> bool:
    return path.suffix in (".pkl", ".pickle") if path.is_file() else any(path.glob("*.pkl"))


def _pickle_reader(path: Path, settings: ReadSettings) -> Reader:
    from serl_recording.formats.pickles import PickleReader

    return PickleReader(path, settings.rate, settings.task)


def _is_bag(path: Path) -> bool:
    return _begins_with(path, b"\x89MCAP0\r\n") if path.is_file() else any(path.glob("*.mcap"))


def _bag_reader(path: Path, settings: ReadSettings) -> Reader:
    from serl_recording.formats.bag.reader import BagReader

    return BagReader(path)


def _bag_writer(path: Path, spec: RecordingSpec, settings: WriteSettings) -> Writer:
    from serl_recording.formats.bag.writer import BagWriter

    return BagWriter(path, spec, settings.pictures)


def _no_reader(path: Path, _: ReadSettings) -> Reader:
    raise RecordingError(f"{path}: files for rerun's viewer are not read; convert from the recording it was made of")


def _rerun_writer(path: Path, spec: RecordingSpec, settings: WriteSettings) -> Writer:
    from serl_recording.formats.rerun_file import RerunWriter

    return RerunWriter(path, spec, settings.pictures)


FORMATS: Final[Mapping[str, Format]] = {
    "serl": Format(
        "demonstration file",
        lambda path: _begins_with(path, b"SERLSEG1"),
        _demonstration_reader,
        _demonstration_writer,
        ("jpeg", "raw"),
        ".serl",
    ),
    "lerobot": Format("LeRobot dataset", _is_lerobot, _lerobot_reader, _lerobot_writer, ("video", "png")),
    "rlds": Format("RLDS dataset", _is_rlds, _rlds_reader, _rlds_writer, ("png", "jpeg")),
    "mcap": Format("MCAP bag", _is_bag, _bag_reader, _bag_writer, ("png", "jpeg")),
    "rerun": Format(
        "file for rerun's viewer",
        lambda path: _begins_with(path, b"RRF2"),
        _no_reader,
        _rerun_writer,
        ("jpeg", "png"),
        ".rrd",
    ),
    "pickle": Format("pickle of SERL or HIL-SERL", _is_pickle, _pickle_reader),
    "journal": Format("run", _is_journal, _journal_reader),
}
