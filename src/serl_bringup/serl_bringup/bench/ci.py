# SPDX-License-Identifier: Apache-2.0
"""How long the whole check takes for somebody who has just cloned the repository."""

import subprocess
import time
from pathlib import Path

from serl_bringup.bench.registry import Bench, Measurement
from serl_bringup.errors import CommandError


def ci_minutes(bench: Bench) -> Measurement:
    """Minutes of ``.ci/run`` in a fresh clone of the commit that is checked out, with set-up and build."""
    checkout = Path(__file__).resolve().parents[4]
    if not (checkout / ".ci" / "run").is_file():
        raise CommandError(f"{checkout} has no .ci/run: this benchmark needs the source checkout")
    clone = bench.scratch / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-local", checkout, clone], check=True)
    log = bench.scratch / "ci.log"
    start = time.monotonic()
    with log.open("wb") as output:
        status = subprocess.run([clone / ".ci" / "run"], cwd=clone, stdout=output, stderr=subprocess.STDOUT).returncode
    minutes = (time.monotonic() - start) / 60
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise CommandError(f".ci/run failed with status {status} after {minutes:.1f} min", details=lines[-30:])
    return Measurement(minutes, "one run", {"minutes": minutes})
