# SPDX-License-Identifier: Apache-2.0
"""``serl launch``: hands its arguments to the launch runner."""

import sys
from typing import Annotated

import typer

from serl_cli.commands.options import complete_launch_file

# Everything behind the file belongs to the runner, which has options of its own.
CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def launch(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(help="Launch file: a path, or the name of one in launch/.", autocompletion=complete_launch_file),
    ],
) -> None:
    """Run a ROS 2 XML launch file where only the pip packages of ROS 2 are installed.

    Arguments of the file follow as NAME:=VALUE; --show-args lists them, --print shows what would be started,
    --log-dir FOLDER says where logs go. docs/launch.md says what a file may contain.

    Examples:
        ./serl launch sim.launch.xml task:=pick_cube real_time_factor:=1.0
        ./serl launch sim.launch.xml --show-args
    """
    from serl_launch.language.launch_plan import LaunchPlan
    from serl_launch.launch_command import main
    from serl_launch.needs import refuse_missing
    from serl_launch.occupants import refuse_doubles
    from serl_launch.ports import refuse_taken

    from serl_cli.names import check_effect, check_names

    def check(plan: LaunchPlan) -> None:
        if check_names(plan.file, plan.arguments):
            if said := check_effect(plan.without_effect, plan.arguments.get("side", "")):
                print(f"serl: note: {said}", file=sys.stderr)
            refuse_missing(plan.arguments)
            refuse_taken(plan.arguments)
        refuse_doubles(plan)

    status = main([file, *context.args], check)
    if status:
        raise typer.Exit(status)
