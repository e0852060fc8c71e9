# SPDX-License-Identifier: Apache-2.0
"""How long the whole check takes for somebody who has just cloned the repository."""

import os
import subprocess
import time
from pathlib import Path

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement

# What ./serl has set for this workspace; the clone must find everything by itself.
OURS = frozenset(
    {
        "AMENT_PREFIX_PATH",
        "CMAKE_PREFIX_PATH",
        "COLCON_DEFAULTS_FILE",
        "COLCON_PREFIX_PATH",
        "FASTDDS_DEFAULT_PROFILES_FILE",
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "ROS_DISTRO",
        "ROS_PYTHON_VERSION",
        "ROS_VERSION",
        "SERL_SHARE",
        "SERL_WORKSPACE",
        "VIRTUAL_ENV",
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
    }
)


def ci_minutes(bench: Bench) -> Measurement:
    """Minutes of ``.ci/run`` in a fresh clone of the commit that is checked out, with set-up and build."""
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / ".ci" / "run").is_file():
        raise CommandError(f"{checkout} has no .ci/run: this benchmark needs the source checkout")
    clone = bench.scratch / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-local", checkout, clone], check=True)
    log = bench.scratch / "ci.log"
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    environment["PATH"] = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if not (Path(part).parent / "pyvenv.cfg").is_file()
    )
    start = time.monotonic()
    with log.open("wb") as output:
        command = [clone / ".ci" / "run"]
        status = subprocess.run(command, cwd=clone, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
    minutes = (time.monotonic() - start) / 60
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise CommandError(f".ci/run failed with status {status} after {minutes:.1f} min", details=lines[-30:])
    return Measurement(minutes, "one run", {"minutes": minutes})
