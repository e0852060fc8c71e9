# SPDX-License-Identifier: Apache-2.0
"""How fast PyTorch is beside JAX: both on one core, by turns in a process of their own."""

import json
import os
import subprocess
import sys
from typing import cast

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement

WINDOWS = 5
WINDOW_SECONDS = 4.0


def torch_sac_ref_ratio(bench: Bench) -> Measurement:
    """Updates per second of PyTorch, with its steps compiled, over those of JAX, at SERL's own settings."""
    return _ratio(bench, "reference")


def torch_cached_ratio(bench: Bench) -> Measurement:
    """Updates per second of PyTorch, with its steps compiled, over those of JAX, on features of the small encoder."""
    return _ratio(bench, "cached")


def torch_pixels_ratio(bench: Bench) -> Measurement:
    """Updates per second of PyTorch, with its steps compiled, over those of JAX, on pictures, small encoder trained."""
    return _ratio(bench, "pixels")


def _ratio(bench: Bench, case: str) -> Measurement:
    bench.say("  compiling, and then by turns; once more with PyTorch's steps as they are written")
    # It is read when JAX is imported, which this process may have done already.
    environment = {**os.environ, "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    command = [sys.executable, "-m", "serl_bench.library.backend_ratio", case]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise CommandError("the backends could not be compared", details=run.stderr.splitlines()[-5:])
    found = json.loads(run.stdout.splitlines()[-1])
    compiled, written = found["compiled"], found["as_written"]
    spread = f"{min(compiled['windows']):.2f} to {max(compiled['windows']):.2f} in {WINDOWS} windows by turns"
    spread += f", {compiled['cpu']:.2f} by processor time; as written {written['wall']:.2f}, {written['cpu']:.2f}"
    return Measurement(compiled["wall"], spread, found)


def measure(case: str) -> dict[str, dict[str, object]]:
    """Ratios of one case, with PyTorch's steps compiled and as they are written."""
    # Whatever its flags say, XLA takes a second core for operations that do not wait for each other.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from serl_rl.benchmarks.backends import Case, torch_ratio
    from serl_rl.config import TorchConfig

    def ratio(*, compiled: bool) -> dict[str, object]:
        computing = TorchConfig(device="cpu", compile=compiled)
        return torch_ratio(cast(Case, case), computing, windows=WINDOWS, seconds=WINDOW_SECONDS)._asdict()

    return {"compiled": ratio(compiled=True), "as_written": ratio(compiled=False)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
