# SPDX-License-Identifier: Apache-2.0
"""The cameras that are plugged in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Device:
    """One camera, with the parameter that the camera node wants for it."""

    source: str
    """Value of the node's parameter `source`."""
    name: str
    """What the device calls itself."""
    parameter: str
    """`video_device` or `serial_no`."""
    value: str


def v4l2_devices(root: Path = Path("/")) -> list[Device]:
    """All V4L2 devices that give pictures, by their lasting names where they have one."""
    by_id = {link.resolve(): link for link in sorted((root / "dev/v4l/by-id").glob("*"))}
    devices = []
    for entry in sorted((root / "sys/class/video4linux").glob("video*"), key=lambda path: (len(path.name), path.name)):
        # A camera has further devices for metadata; the first one has the pictures.
        if _text(entry / "index") != "0":
            continue
        path = root / "dev" / entry.name
        devices.append(Device("v4l2", _text(entry / "name"), "video_device", str(by_id.get(path, path))))
    return devices


def realsense_devices() -> list[Device] | None:
    """All RealSense cameras; None when pyrealsense2 is not installed."""
    try:
        import pyrealsense2
    except ImportError:
        return None
    return list(_realsense(pyrealsense2))


def _realsense(library: Any) -> Iterator[Device]:
    for device in library.context().query_devices():
        name = device.get_info(library.camera_info.name)
        yield Device("realsense", name, "serial_no", device.get_info(library.camera_info.serial_number))


def _text(path: Path) -> str:
    return path.read_text(errors="replace").strip() if path.is_file() else ""
