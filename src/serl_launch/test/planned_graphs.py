# SPDX-License-Identifier: Apache-2.0
"""Launch files of this workspace as plans, on a machine where what they start seems to be installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from serl_launch.language.launch_plan import LaunchPlan, make_plan

ROOT = Path(__file__).resolve().parents[3]


def installed(prefix: Path, executables: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The environment of a prefix in which packages have these executables; the programs are never started."""
    for package, names in executables.items():
        marker = prefix / "share/ament_index/resource_index/packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for name in names:
            path = prefix / "lib" / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
    share = prefix / "share/serl_bringup"
    share.mkdir()
    (share / "config").symlink_to(ROOT / "config")
    return {"AMENT_PREFIX_PATH": str(prefix)}


def plan(file: Path, environment: dict[str, str], **arguments: str) -> LaunchPlan:
    """What a launch file starts with these arguments."""
    return make_plan(file, arguments, environment, Path("/log"))


def parameters(made: LaunchPlan) -> dict[str, dict[str, Any]]:
    """Parameters of each node by its full name."""
    found: dict[str, dict[str, Any]] = {}
    for process in made.processes:
        assert process.node is not None
        found[process.node] = {}
        for file in process.files:
            found[process.node].update(yaml.safe_load(file.text)[process.node]["ros__parameters"])
    return found
