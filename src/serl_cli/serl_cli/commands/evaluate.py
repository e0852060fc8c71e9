# SPDX-License-Identifier: Apache-2.0
"""``serl eval``: how good a trained policy is."""

from typing import Annotated

import typer
from serl_launch.errors import UsageError

from serl_cli.commands.options import MappingOption, RtfOption, SeedOption, ViewerOption, complete_run
from serl_cli.ranges import LARGEST_COUNT


def evaluate(
    run: Annotated[
        str, typer.Argument(help="Name of a run, or its folder; with --policy a task.", autocompletion=complete_run)
    ],
    policy: Annotated[
        str,
        typer.Option(
            metavar="KIND:PATH", help="Evaluate this imported policy on the task instead; serl:PATH is one of ours."
        ),
    ] = "",
    mapping: MappingOption = None,
    episodes: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Episodes, each from another start.")] = 50,
    seed: SeedOption = 1000,
    rtf: RtfOption = 0.0,
    viewer: ViewerOption = False,
    video: Annotated[bool, typer.Option("--video", help="Film some episodes, too.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Evaluate the newest policy of a run: deterministic, on starts that training never used.

    With --policy one that was made before acts in the graph of a task, through the same safety filter.

    Examples:
        ./serl eval pick_cube-20260101-120000
        ./serl eval runs/mine --episodes 200
        ./serl eval mine --json
        ./serl eval pick_cube --policy serl:runs/mine
    """
    from serl_cli.work import evaluate_policy

    if policy:
        if video:
            raise UsageError("--video is for runs: an imported policy is not filmed; leave it out")
        evaluate_policy.evaluate_imported(
            run, policy, mapping, episodes=episodes, seed=seed, rtf=rtf, viewer=viewer, json_output=json_output
        )
        return
    if mapping is not None:
        raise UsageError("--mapping is for an imported policy: name it by --policy KIND:PATH")
    evaluate_policy.evaluate(
        run, episodes=episodes, seed=seed, rtf=rtf, viewer=viewer, video=video, json_output=json_output
    )
