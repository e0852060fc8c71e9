# SPDX-License-Identifier: Apache-2.0
"""``serl config``: settings of other stacks."""

import re
from pathlib import Path
from typing import Annotated

import typer
from serl_launch.errors import CommandError

config = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@config.callback()
def config_overview() -> None:
    """Take over the settings of other stacks.

    Examples:
        ./serl config import train_hilserl.json
    """


@config.command("import")
def import_config(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="LeRobot's train_config.json, env_config.json or train_hilserl*.json."),
    ],
    task: Annotated[
        str, typer.Option(metavar="TASK", help="Task to extend. Default: one of the robot that the file names.")
    ] = "",
    name: Annotated[str, typer.Option(help="Of the files that are written. Default: that of FILE.")] = "",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where config/tasks and config/learning are.")
    ] = Path(),
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="List settings that nobody knows, instead of refusing them.")
    ] = False,
) -> None:
    """Make a task and learning settings of what LeRobot's HIL-SERL was told, and print what became of each setting.

    Settings without a counterpart are listed with the reason. Nothing is written if anything cannot be used.

    Examples:
        ./serl config import train_hilserl.json
        ./serl config import train_config.json --task pick_cube_vision --name my_cube
    """
    from serl_cli.work.foreign.import_settings import import_settings

    chosen = name or source.stem
    if not _NAME.fullmatch(chosen):
        raise CommandError(f"--name: expected letters, digits, '.', '_' and '-', found {chosen[:80]!r}")
    import_settings(source, task, chosen, out, skip_unknown, typer.echo)
