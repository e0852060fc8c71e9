# SPDX-License-Identifier: Apache-2.0
"""A small workspace for the real ./serl, with doubles of Python and colcon."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Answers what ./serl asks of Python, and writes down what it was told to do.
PYTHON = r"""#!/bin/bash
venv=$(dirname "$(dirname "$0")")
case "$*" in
  *realpath*) echo "$0" ;;
  *version_info*) echo 3.11 ;;
  --version) echo Python 3.11.0 ;;
  *rclpy.__file__*) echo /conda/site-packages ;;
  "-c import rclpy") [ ! -e "$CALLS.rclpy_is_condas" ] || [ -e "$venv/lib/python3.11/site-packages/native_ros.pth" ] ;;
  "-c "*) ;;
  "-m venv "*)
    echo "$*" >>"$CALLS"
    mkdir -p "${!#}/bin" "${!#}/lib/python3.11/site-packages"
    echo "command = $0 -m venv ${!#}" >"${!#}/pyvenv.cfg"
    cp "$0" "${!#}/bin/python"
    cp "$COLCON" "${!#}/bin/colcon"
    for tool in ruff mypy lint-imports; do
      printf '#!/bin/bash\necho "%s $*" >>"$CALLS"; [ ! -e "$CALLS.%s_fails" ]\n' $tool $tool >"${!#}/bin/$tool"
      chmod +x "${!#}/bin/$tool"
    done ;;
  *--look-for*) [ ! -e "$CALLS.no_build_for_cpus" ] ;;
  *install_packages.py*)
    echo "$*" >>"$CALLS"
    [ ! -e "$CALLS.pip_hangs" ] || sleep 60
    [ ! -e "$CALLS.pip_fails" ] || { echo "pip: the network is down"; exit 1; }
    lock=${!#}
    name=${lock##*/}
    [ ! -e "$CALLS.${name%.txt}_fails" ] || exit 1
    touch "$venv/lib/installed" "$CALLS.${lock##*/}" ;;
  *check_venv.py\ */extras/torch-*) lock=${!#}; [ -e "$CALLS.${lock##*/}" ] ;;
  *check_venv.py\ *) ;;
  *check_venv.py) [ -e "$venv/lib/installed" ] || { echo "serl: lib/installed is missing" >&2; exit 1; } ;;
  "-m pytest"* | scripts/mutants.py*) echo "$*" >>"$CALLS" ;;
  "-m serl_cli"*) shift 2; printf '[%s]' "$@"; echo ;;
esac
"""

COLCON = r"""#!/bin/bash
echo "colcon $*" >>"$CALLS"
install=$(sed -n 's/^build: .*install-base: "\([^"]*\)".*/\1/p' "$COLCON_DEFAULTS_FILE")
mkdir -p "$install"/{serl_a,serl_bringup}
echo 'export SOURCED=yes' >"$install/local_setup.bash"
"""


class Workspace:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "workspace"
        self.tools = folder / "tools"
        self.calls_file = folder / "calls"
        for name in ("serl", "scripts/environment.bash", "scripts/setup.bash", "scripts/check_venv.py", "colcon.meta"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        for name in (
            "cmake/ros_wheels.cmake", "requirements/jazzy.txt", "requirements/kilted.txt", "requirements/native.txt",
            "src/serl_a/package.xml", "src/serl_a/msg/A.msg", "src/serl_a/serl_a/code.py",
            "src/serl_bringup/package.xml", "src/compat/tf2_msgs/package.xml", "src/compat/control_msgs/package.xml",
            "src/serl_bringup/launch/sim.launch.xml", "src/serl_bringup/config/a.yaml",
        ):  # fmt: skip
            self.write(name, f"{name}\n")
        for name in ("launch", "config"):
            (self.root / name).symlink_to(f"src/serl_bringup/{name}")
        self.tools.mkdir()
        for name, text in (("python", PYTHON), ("colcon", COLCON)):
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
        self.environment = {
            **keep,
            "HOME": str(folder),
            "SERL_PYTHON": str(self.tools / "python"),
            "COLCON": str(self.tools / "colcon"),
            "CALLS": str(self.calls_file),
        }

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "serl"), *arguments]

    def serl(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """Return what was set up since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines

    def builds(self) -> list[str]:
        """Return the packages that colcon was asked for since the last look, one text for each call."""
        return [call.partition("--packages-select ")[2] for call in self.calls() if call.startswith("colcon")]


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def ready(workspace):
    assert workspace.serl("setup").returncode == 0
    workspace.calls()
    return workspace


@pytest.fixture
def native(tmp_path):
    """The environment of a sourced native ROS 2 that has rclpy and tf2_msgs."""
    prefix = tmp_path / "opt" / "ros" / "jazzy"
    packages = "lib/python3.11/site-packages"
    for file in (
        "share/ament_index/resource_index/packages/rclpy",
        "share/tf2_msgs/package.xml",
        f"{packages}/rclpy/__init__.py",
    ):
        (prefix / file).parent.mkdir(parents=True, exist_ok=True)
        (prefix / file).touch()
    return {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(prefix), "PYTHONPATH": str(prefix / packages)}
