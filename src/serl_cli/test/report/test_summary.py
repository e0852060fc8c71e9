# SPDX-License-Identifier: Apache-2.0
"""What a command says at its end can be copied, however narrow the terminal is."""

import io
from pathlib import Path

from rich.console import Console
from serl_cli.report.summary import show
from serl_launch.runs import Run


def test_no_command_and_no_path_is_broken_into_lines(tmp_path: Path) -> None:
    run = Run(tmp_path / ("a_long_name_of_a_run_" * 5))
    run.path.mkdir()
    for file in (run.config_file, run.result_file):
        file.write_text("")
    written = io.StringIO()
    show(run, Console(file=written, width=40))
    assert written.getvalue().splitlines() == [
        f"configuration  {run.config_file}",
        f"result         {run.result_file}",
        f"go on: ./serl eval {run.name}, ./serl train --resume {run.name}",
    ]
