# SPDX-License-Identifier: Apache-2.0
"""How a source of pictures is made, by the name of its kind."""

from serl_cameras.sources.source import SOURCES, Source, SourceSettings, SourceSettingsError


def make_source(kind: str, settings: SourceSettings) -> Source:
    """Make the source that one of `SOURCES` names; only its own library is imported.

    Raises:
        SourceSettingsError: the settings cannot be used, or the library is missing.
    """
    if (settings.width == 0) != (settings.height == 0):
        raise SourceSettingsError(
            f"image_width and image_height: expected both or none, found {settings.width} and {settings.height}"
        )
    if kind == "v4l2":
        from serl_cameras.sources.v4l2 import V4l2Source

        return V4l2Source(settings)
    if kind == "realsense":
        from serl_cameras.sources.realsense import RealsenseSource

        return RealsenseSource(settings)
    if kind == "file":
        from serl_cameras.sources.file import FileSource

        return FileSource(settings)
    raise SourceSettingsError(f"source: expected one of {', '.join(SOURCES)}, found {kind!r}")
