# SPDX-License-Identifier: Apache-2.0
"""``serl record``: demonstrations into a file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serl_cli.commands.options import RtfOption, SeedOption, TaskArgument, ViewerOption
from serl_cli.ranges import LARGEST_COUNT


def record(
    task: TaskArgument = "insert_peg_vision",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: TASK.serl.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Successful demonstrations wanted.")] = 20,
    pictures: Annotated[
        Literal["jpeg", "raw"],
        typer.Option(help="How it keeps what the cameras saw: JPEG of quality 95, or raw, which is larger."),
    ] = "jpeg",
    seed: SeedOption = 0,
    rtf: RtfOption = 0.0,
    viewer: ViewerOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Record demonstrations of the person who leads into a file that [bold]./serl train --demo-file[/bold] reads.

    Of a task with cameras it holds the pictures, so it can be used with any encoder. The file is data, never code. It
    appears when it is complete: an interrupted recording leaves an older file alone.

    Examples:
        ./serl record
        ./serl record pick_cube --episodes 5 --out five.serl
    """
    from serl_cli.work import record_demonstrations

    record_demonstrations.record(
        task,
        out or Path(f"{task}.serl"),
        episodes=episodes,
        pictures=pictures,
        seed=seed,
        rtf=rtf,
        viewer=viewer,
        force=force,
    )
