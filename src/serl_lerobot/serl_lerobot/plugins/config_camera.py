# SPDX-License-Identifier: Apache-2.0
"""Options of LeRobot's cameras of type `serl`."""

from dataclasses import dataclass

from lerobot.cameras import CameraConfig


@CameraConfig.register_subclass("serl")
@dataclass(kw_only=True)
class SerlCameraConfig(CameraConfig):
    """Which camera of a running graph, and the size of its pictures."""

    camera: str
    """Name of the camera, as in the topic `<camera>/color/image_raw`."""
    namespace: str = ""
    """Namespace of the graph."""
    fps: int | None = 30
    """Pictures a second, which LeRobot may ask for; the camera's driver decides."""
    width: int | None = 128
    """Width of the pictures [pixels]."""
    height: int | None = 128
    """Height of the pictures [pixels]."""
