# SPDX-License-Identifier: Apache-2.0
"""``serl policy``: checkpoints of RoboBase, SERL and HIL-SERL."""

from pathlib import Path
from typing import Annotated

import typer
from serl_launch.errors import CommandError

from serl_cli.commands.foreign.policy import exporting, importing, policy

policies = policy  # with the commands of this module

OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIRECTORY", help="New directory to write.")]


@exporting.command("drqv2")
def export_drqv2(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A RoboBase snapshot, or a folder of them.")],
    out: OutOption,
) -> None:
    """Write a DrQ-v2 policy of RoboBase as a LeRobot-style directory: config.json and model.safetensors.

    Of a folder the latest numbered snapshot is taken: choose by success rate, and name the file, if you know better.

    Examples:
        ./serl policy export drqv2 snapshots/800000_snapshot.pt --out models/drqv2_sim_pretrained
    """
    _convert(source, out)


@policy.command("convert-robobase")
def convert_robobase(
    source: Annotated[Path, typer.Option("--input", metavar="PATH", help="A RoboBase snapshot, or a folder of them.")],
    out: Annotated[Path, typer.Option("--output", metavar="DIRECTORY", help="New directory to write.")],
) -> None:
    """Write a RoboBase snapshot as a LeRobot-style directory, with options --input and --output.

    Examples:
        ./serl policy convert-robobase --input snapshots/800000_snapshot.pt --output models/drqv2_sim_pretrained
    """
    _convert(source, out)


@importing.command("flax")
def import_flax(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A checkpoint of SERL or HIL-SERL, or its folder.")],
    out: OutOption,
    cameras: Annotated[
        str, typer.Option(metavar="NAME,...", help="image_keys of the run in their order; needed from three on.")
    ] = "",
) -> None:
    """Write a policy of SERL or HIL-SERL as a directory of config.json and model.safetensors, which flax:PATH names.

    Examples:
        ./serl policy import flax checkpoints --out plug_policy
        ./serl policy import flax checkpoints --cameras wrist_1,wrist_2,side --out plug_policy
    """
    from serl_rl.foreign.serl.checkpoint import read_parameters
    from serl_rl.foreign.serl.policy import SerlPolicy, write_serl

    _check_parent(out)
    found = SerlPolicy(source, read_parameters(source), [name for name in cameras.split(",") if name])
    write_serl(out, found)
    typer.echo(f"{out}: cameras {', '.join(found.cameras) or 'none'}, {found.outputs} components of an action")


def _convert(source: Path, out: Path) -> None:
    from serl_rl.foreign.robobase.files import read_drqv2, write_drqv2

    _check_parent(out)
    checkpoint = read_drqv2(source)
    write_drqv2(out, checkpoint)
    sizes = checkpoint.network.architecture
    height, width = sizes.picture
    typer.echo(f"{checkpoint.source}: cameras {', '.join(sizes.cameras)}, pictures {width} x {height}")
    typer.echo(f"frame stack {sizes.frame_stack}, state {sizes.state}, action {sizes.actions}, hidden {sizes.hidden}")
    typer.echo(f"{out} is written")


def _check_parent(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise CommandError(f"{out}: there is no folder {out.absolute().parent}")
