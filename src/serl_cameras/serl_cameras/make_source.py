# SPDX-License-Identifier: Apache-2.0
"""How a source of pictures is made, by the name of its kind. A new kind is a class and an entry here."""

from collections.abc import Callable

from serl_cameras.sources.source import Source, SourceSettings, SourceSettingsError


def _v4l2(settings: SourceSettings) -> Source:
    from serl_cameras.sources.v4l2 import V4l2Source

    return V4l2Source(settings)


def _realsense(settings: SourceSettings) -> Source:
    from serl_cameras.sources.realsense import RealsenseSource

    return RealsenseSource(settings)


def _file(settings: SourceSettings) -> Source:
    from serl_cameras.sources.file import FileSource

    return FileSource(settings)


SOURCES: dict[str, Callable[[SourceSettings], Source]] = {
    "v4l2": _v4l2,
    "realsense": _realsense,
    "file": _file,
}
"""What makes a source, by the name of its kind; each imports the library of its own device, and no other."""


def make_source(kind: str, settings: SourceSettings) -> Source:
    """Make the source that one of `SOURCES` names.

    Raises:
        SourceSettingsError: the settings cannot be used, or the library is missing.
    """
    if kind not in SOURCES:
        raise SourceSettingsError(f"source: expected one of {', '.join(SOURCES)}, found {kind!r}")
    if (settings.width == 0) != (settings.height == 0):
        raise SourceSettingsError(
            f"image_width and image_height: expected both or none, found {settings.width} and {settings.height}"
        )
    return SOURCES[kind](settings)
