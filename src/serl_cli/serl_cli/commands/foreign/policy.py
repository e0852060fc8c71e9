# SPDX-License-Identifier: Apache-2.0
"""``serl policy``: policies that other stacks made, in and out."""

from pathlib import Path
from typing import Annotated

import typer
from serl_launch.errors import CommandError

policy = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
importing = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
exporting = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@policy.callback()
def policy_overview() -> None:
    """Take over policies that other stacks made, and write ours as theirs.

    Examples:
        ./serl policy import act my_policy
        ./serl policy export act my_policy.safetensors --out act_policy
    """


@importing.callback()
def import_overview() -> None:
    """Take over a policy that another stack made.

    Examples:
        ./serl policy import act my_policy
    """


@exporting.callback()
def export_overview() -> None:
    """Write a policy as another stack reads it.

    Examples:
        ./serl policy export act my_policy.safetensors --out act_policy
    """


policy.add_typer(importing, name="import")
policy.add_typer(exporting, name="export")


@importing.command("act")
def import_act(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A LeRobot ACT directory, with its config.json.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: PATH.safetensors.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Take over a LeRobot ACT policy, of any version with a config.json that says its type.

    The network runs once, in JAX. LeRobot and PyTorch are not needed, and nothing of the directory is executed.

    Examples:
        ./serl policy import act outputs/train/checkpoints/last/pretrained_model --out cube.safetensors
    """
    from serl_cli.work.convert_act import import_policy

    path = out or Path(f"{source.resolve().name}.safetensors")
    if path.suffix != ".safetensors":
        raise CommandError(f"{path}: expected a name that ends in .safetensors")
    if path.exists() and not force:
        raise CommandError(f"{path} exists: choose another --out, or --force to replace it")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.absolute().parent}")
    import_policy(source, path, typer.echo)


@exporting.command("act")
def export_act(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="What import or a training wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIRECTORY", help="New directory to write.")],
) -> None:
    """Write an ACT policy as a directory that LeRobot 0.4 and later load.

    Examples:
        ./serl policy export act cube.safetensors --out act_policy
    """
    from serl_cli.work.convert_act import export_policy

    if not out.absolute().parent.is_dir():
        raise CommandError(f"{out}: there is no folder {out.absolute().parent}")
    export_policy(source, out, typer.echo)
