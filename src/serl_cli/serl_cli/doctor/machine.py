# SPDX-License-Identifier: Apache-2.0
"""What of this machine would be in the way: software, memory, disk, graphics card, devices and who may read them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from serl_cameras.devices import v4l2_devices
from serl_teleop.devices.hid.spacemouse import space_mice

from serl_cli.doctor.finding import Finding, Level
from serl_launch import domain, system

_PYTHONS = ((3, 11), (3, 12))
_GIB = 2**30
_LEAST_MEMORY = 2.0  # [GiB] free: a graph with a learner that sees pictures
_LEAST_DISK = 2.0  # [GiB] free: a run with its journal and checkpoints
_LEAST_SHARED = 0.06  # [GiB]: what Fast DDS wants for pictures between processes
_SETUP = "./serl setup sets the workspace up"
_RULE = (
    "./serl teleop rule 70-spacemouse.rules writes the udev rule; as administrator: cp 70-spacemouse.rules "
    "/etc/udev/rules.d/ and udevadm control --reload, then plug the device in again"
)


Access = Callable[[Path, int], bool]
"""Whether a file may be used in a way, as `os.access`."""


def findings(root: Path = Path("/"), folder: Path = Path(), access: Access = os.access) -> Iterator[Finding]:
    """Look at everything.

    Args:
        root: of /proc, /sys and /dev.
        folder: where runs are written.
        access: says which devices this user may use.
    """
    yield _python()
    yield _ros()
    yield _packages()
    yield _domain()
    yield _memory(root)
    yield _disk("disk", folder.absolute(), _LEAST_DISK, "free some, or work in another folder: runs are written here")
    if (root / "dev/shm").is_dir():
        advice = "enlarge it (docker run --shm-size=1g): pictures go from process to process there"
        yield _disk("shared memory", root / "dev/shm", _LEAST_SHARED, advice)
    yield _graphics(root)
    yield from _space_mice(root, access)
    yield from _files(root, "camera", [Path(device.value) for device in v4l2_devices(root)], "video", access)
    serial = sorted(path for kind in ("ttyACM*", "ttyUSB*") for path in (root / "dev").glob(kind))
    yield from _files(root, "serial port", serial, "dialout", access)


def _python() -> Finding:
    version, text = sys.version_info[:2], f"{platform.python_version()} in {sys.prefix}"
    if version not in _PYTHONS:
        wanted = " or ".join(".".join(map(str, each)) for each in _PYTHONS)
        return Finding("Python", Level.BAD, f"expected {wanted}, found {text}", _SETUP)
    if sys.prefix == sys.base_prefix:
        return Finding("Python", Level.NOTE, f"{text}, which is no virtual environment", _SETUP)
    return Finding("Python", Level.GOOD, text)


def _ros() -> Finding:
    missing = [name for name in ("rclpy", "serl_interfaces") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("ROS 2", Level.BAD, f"{', '.join(missing)} cannot be imported", _SETUP)
    return Finding("ROS 2", Level.GOOD, system.describe()["ros_distro"])


def _packages() -> Finding:
    versions = system.versions()
    missing = [name for name, version in versions.items() if version == "missing" and name != "rclpy"]
    if missing:
        return Finding("packages", Level.BAD, f"{', '.join(missing)} missing", _SETUP)
    return Finding("packages", Level.GOOD, ", ".join(f"{name} {versions[name]}" for name in ("jax", "mujoco", "numpy")))


def _domain() -> Finding:
    chosen, graphs = domain.environment_domain(), domain.running_graphs()
    text = "each graph gets a free one" if chosen is None else f"ROS_DOMAIN_ID is {chosen}, for every graph"
    running = "; " + ", ".join(f"{graph.name} runs in {graph.domain_id}" for graph in graphs) if graphs else ""
    return Finding("ROS domain", Level.GOOD if chosen is None else Level.NOTE, text + running)


def _memory(root: Path) -> Finding:
    lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
    sizes = {name: int(value.split()[0]) / 2**20 for name, _, value in (line.partition(":") for line in lines)}
    free, total = sizes["MemAvailable"], sizes["MemTotal"]
    text = f"{free:.1f} of {total:.1f} GiB free"
    if free < _LEAST_MEMORY:
        return Finding("memory", Level.NOTE, text, f"end something: a training may need {_LEAST_MEMORY:.0f} GiB")
    return Finding("memory", Level.GOOD, text)


def _disk(name: str, path: Path, least: float, advice: str) -> Finding:
    free = shutil.disk_usage(path).free / _GIB
    text = f"{free:.1f} GiB free at {path}"
    return Finding(name, Level.NOTE, text, advice) if free < least else Finding(name, Level.GOOD, text)


def _graphics(root: Path) -> Finding:
    if not list((root / "dev").glob("nvidia[0-9]*")):
        return Finding(
            "GPU", Level.GOOD, "none of NVIDIA: training runs on the processor, which all our numbers are of"
        )
    plugins = [each.name for each in importlib.metadata.distributions() if each.name.startswith("jax-cuda")]
    if not plugins:
        return Finding("GPU", Level.NOTE, "one of NVIDIA, which JAX does not use: it was installed for the processor")
    return Finding("GPU", Level.GOOD, f"one of NVIDIA, by {', '.join(sorted(plugins))}")


def _space_mice(root: Path, access: Access) -> Iterator[Finding]:
    for mouse in space_mice(root / "sys", root / "dev"):
        if access(mouse.path, os.R_OK):
            yield Finding("SpaceMouse", Level.GOOD, f"{mouse.model.name}, {mouse.path}")
        else:
            yield Finding("SpaceMouse", Level.BAD, f"{mouse.model.name}: {mouse.path} may not be read", _RULE)


def _files(root: Path, name: str, paths: list[Path], group: str, access: Access) -> Iterator[Finding]:
    for path in paths:
        shown = Path("/") / path.relative_to(root)
        if access(path, os.R_OK | os.W_OK):
            yield Finding(name, Level.GOOD, str(shown))
        else:
            advice = f"as administrator: usermod -aG {group} {os.environ.get('USER', 'YOU')}, then log in again"
            yield Finding(name, Level.BAD, f"{shown} may not be read and written", advice)
