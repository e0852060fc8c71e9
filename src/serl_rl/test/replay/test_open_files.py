# SPDX-License-Identifier: Apache-2.0
"""The files of all buffers together may be open, or a line says how many may not."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import logging, resource, sys
from contextlib import ExitStack
from pathlib import Path
from serl_rl.replay.tiered_buffer import tiered_buffer
from serl_rl.spec import TransitionSpec

folder, runs, hard = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
spec = TransitionSpec({"state": ((3,), "float32"), "wrist": ((8, 8, 3), "uint8")}, 2)
try:
    for run in range(runs):
        tiered_buffer(lambda capacity, cold: cold, spec, f"{2 * runs}MB", runs, folder, 20_000, str(run), print)
except ValueError as error:
    print("refused:", error)
    sys.exit()
with ExitStack() as stack:
    for number in range(runs * 2 * 64):
        stack.enter_context((folder / str(number)).open("w"))
print("all open")
"""


@pytest.mark.parametrize(
    ("runs", "hard", "says"),
    [(3, 1000, "limit of open files raised from 100 to"), (6, 1000, "refused: replay_memory: expected a limit of")],
)
def test_files_of_all_mounted_runs_are_counted_together(tmp_path: Path, runs: int, hard: int, says: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(runs), str(hard)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert says in told.stdout, told.stdout + told.stderr
    assert ("all open" in told.stdout) == (runs == 3), told.stderr
    assert told.returncode == 0
