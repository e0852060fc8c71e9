# SPDX-License-Identifier: Apache-2.0
"""A sweep of four trials whose `./serl train` is a script that does what a test wants, and fixtures of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from serl_cli.sweep.folder import SweepFolder

FILE = """
name: few
tasks: [pick_cube]
seeds: 2
train: {max_steps: 100}
parameters:
  utd_ratio: [1, 2]
"""
QUIET = Console(quiet=True)

TRAIN = """
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
resumed = "--resume" in words
name = words[words.index("--resume" if resumed else "--name") + 1]
run = Path(os.environ["SERL_RUNS"]) / name
run.mkdir(exist_ok=True)
for file in ("config.yaml", "learning.yaml"):
    (run / file).write_text("{}")
with (run / "starts").open("a") as starts:
    starts.write(("resume" if resumed else "new") + os.environ.get("ROS_DOMAIN_ID", " free") + "\\n")
what = os.environ.get("TRIAL_DOES", "")
if what == "fail" and name.endswith("seed-1"):
    sys.exit("serl: error: no arm")
if what == "die" and not resumed or what == "die always":
    os.kill(os.getpid(), 9)
if what == "wait":
    import time
    time.sleep(120)
rate = 1.0 if "ratio-2" in name else 0.5
result = {"success": rate == 1.0, "success_rate": rate, "env_steps": 100, "env_steps_to_goal": 80, "wall_seconds": 3.0}
(run / "result.json").write_text(json.dumps(result))
(run / "metrics.csv").write_text(
    "wall_time,env_steps,node,name,value\\n1.0,50,actor,eval/success_rate,0.25\\n"
    f"2.0,100,actor,eval/success_rate,{rate}\\n"
)
sys.exit(0 if rate == 1.0 else 1)
"""


def written(folder: Path, text: str) -> Path:
    """A sweep's file with this text."""
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def starts(folder: SweepFolder, name: str) -> list[str]:
    """How a trial was started each time."""
    return (folder.path / name / "starts").read_text(encoding="utf-8").split("\n")[:-1]


_SWEEP = """
import os, sys
from pathlib import Path
from rich.console import Console
from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.run_trials import TrialRunner, run_sweep
from serl_cli.sweep.settings import read_sweep
from serl_launch.errors import Interrupted
folder = SweepFolder(Path(sys.argv[2]))
runner = TrialRunner(folder, lambda arguments, source=sys.argv[3]: [sys.executable, "-c", source, *arguments])
executor = None
if os.environ.get("BY_RAY"):
    from serl_cli.sweep.ray_pool import RayPool
    folder.path.mkdir(exist_ok=True)
    executor = RayPool("local", folder.path, 2)
try:
    run_sweep(read_sweep(Path(sys.argv[1])), folder, Console(quiet=True), jobs=2, runner=runner, executor=executor)
except Interrupted as error:
    print(error)
"""


def sweep_script(folder: Path, kept: SweepFolder) -> list[str]:
    """The command of a process that runs the sweep; by Ray, where the variable BY_RAY is set."""
    return [sys.executable, "-c", _SWEEP, str(folder / "file.yaml"), str(kept.path), TRAIN]


def start(command: list[str], **variables: str) -> subprocess.Popen[str]:
    """Start it."""
    return subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)


def eventually(holds: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"expected within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def processes_with(text: str) -> list[int]:
    """Processes whose runs are in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if f"SERL_RUNS={text}" in variables:
            found.append(int(entry.parent.name))
    return found
