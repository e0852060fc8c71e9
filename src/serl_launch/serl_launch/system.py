# SPDX-License-Identifier: Apache-2.0
"""The machine and the software that a number belongs to."""

import importlib.metadata
import os
import platform
from pathlib import Path

from serl_config.software import commit

PACKAGES = ("jax", "jaxlib", "flax", "optax", "mujoco", "numpy", "rclpy")


def machine() -> str:
    """The machine in one line: processor, cores that this process may use, memory."""
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}, {_memory_gib():.0f} GiB"


def load() -> float:
    """Processes that wanted to run during the last minute, ours not yet among them: above 0.5 the machine is busy."""
    return os.getloadavg()[0]


def describe() -> dict[str, str]:
    """Machine, operating system, and versions of what the numbers depend on."""
    return {
        "machine": machine(),
        "system": f"{_distribution()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "ros_distro": os.environ.get("SERL_ROS_DISTRO") or os.environ.get("ROS_DISTRO") or "jazzy",
        "commit": commit(),
        **versions(),
    }


def versions() -> dict[str, str]:
    """Version of each package in ``PACKAGES``; "missing" where it is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()  # ARM kernels do not tell a name


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:  # no os-release file
        return "unknown distribution"
