# SPDX-License-Identifier: Apache-2.0
"""What import-linter cannot say: which files may speak ROS, and what is really loaded in a process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent.parent / "src"
PLAIN_FOLDERS = {"language", "processes", "report"}
ROS_MODULES = {"rclpy", "serl_ros", "serl_interfaces"}


def plain_modules() -> list[Path]:
    """Return the files that docs/architecture.md keeps free of ROS."""

    def may_speak_ros(file: Path) -> bool:
        commands = {"serl_cli", "serl_bench", "serl_launch"} & set(file.parts) and not PLAIN_FOLDERS & set(file.parts)
        rim = file.name.endswith("_node.py") or file.name.startswith("graph_")
        return rim or "serl_ros" in file.parts or bool(commands)

    return [file for file in sorted(SOURCES.glob("serl_*/serl_*/**/*.py")) if not may_speak_ros(file)]


def imported_packages(file: Path) -> set[str]:
    """Return the top-level packages that a file imports, at whatever depth."""
    packages = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add((node.module or "").partition(".")[0])
    return packages


@pytest.mark.parametrize("file", plain_modules(), ids=lambda file: str(file.relative_to(SOURCES)))
def test_a_plain_module_does_not_speak_ros(file):
    assert not imported_packages(file) & ROS_MODULES


@pytest.mark.parametrize("module", ["serl_training.actor_node", "serl_robots.arm_controller_node", "serl_sim.envs"])
def test_a_process_beside_the_learner_never_loads_jax(module):
    script = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
