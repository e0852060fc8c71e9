# SPDX-License-Identifier: Apache-2.0
"""How many pictures a camera gives in a second."""

import time
from pathlib import Path
from typing import Final

from serl_cameras.make_source import make_source
from serl_cameras.sources.source import SourceError, SourceSettings

from serl_cli.doctor.finding import Finding, Level

_SECONDS: Final = 2.0  # that a camera is watched
_LEAST_RATE: Final = 10.0  # [Hz]


def camera_finding(place: str) -> Finding:
    """Watch a camera for two seconds.

    Args:
        place: device of V4L2, or a video or a folder of pictures.
    """
    name = f"camera {place}"
    is_device = Path(place).resolve().is_relative_to("/dev")
    settings = SourceSettings(video_device=place) if is_device else SourceSettings(path=place)
    source = make_source("v4l2" if is_device else "file", settings)
    try:
        source.open()
        height, width, _ = source.read().shape  # the first one takes as long as the camera needs to wake up
        start, count = time.monotonic(), 0
        while time.monotonic() < start + _SECONDS:
            source.read()
            count += 1
        rate = count / (time.monotonic() - start)
    except SourceError as error:
        return Finding(name, Level.BAD, str(error), "./serl camera list says which there are")
    finally:
        source.close()
    text = f"{rate:.1f} pictures of {width}x{height} in a second"
    if rate < _LEAST_RATE:
        return Finding(name, Level.BAD, text, "more light, pixel_format MJPG, or a USB port of its own")
    return Finding(name, Level.GOOD, text)
