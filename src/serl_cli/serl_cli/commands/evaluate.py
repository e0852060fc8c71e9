# SPDX-License-Identifier: Apache-2.0
"""``serl eval``: how good a trained policy is."""

from typing import Annotated

import typer

from serl_cli.commands.options import RtfOption, RunArgument, SeedOption, ViewerOption
from serl_cli.ranges import LARGEST_COUNT


def evaluate(
    run: RunArgument,
    episodes: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Episodes, each from another start.")] = 50,
    seed: SeedOption = 1000,
    rtf: RtfOption = 0.0,
    viewer: ViewerOption = False,
    video: Annotated[bool, typer.Option("--video", help="Film some episodes, too.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Evaluate the newest policy of a run: deterministic, on starts that training never used.

    Examples:
        ./serl eval pick_cube-20260101-120000
        ./serl eval runs/mine --episodes 200
        ./serl eval mine --json
    """
    from serl_cli.work import evaluate_policy

    evaluate_policy.evaluate(
        run, episodes=episodes, seed=seed, rtf=rtf, viewer=viewer, video=video, json_output=json_output
    )
