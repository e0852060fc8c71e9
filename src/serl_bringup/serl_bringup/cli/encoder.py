# SPDX-License-Identifier: Apache-2.0
"""``serl encoder``: the networks that turn a camera's pictures into features."""

from pathlib import Path
from typing import Annotated

import typer

from serl_bringup.cli.options import SeedOption
from serl_bringup.errors import CommandError

encoder = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@encoder.callback()
def encoder_overview() -> None:
    """Train encoders on rendered scenes, and convert those of others.

    Examples:
        ./serl encoder train
        ./serl encoder convert resnet10_params.pkl
    """


@encoder.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="Name in config/encoders, or path of a YAML file.")] = "small",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: RECIPE.safetensors.")
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Train an encoder on rendered scenes with random light, colours, textures and camera poses.

    Examples:
        ./serl encoder train
        ./serl encoder train my_recipe.yaml --out my.safetensors
    """
    from serl_bringup.encoder_recipe import load_recipe
    from serl_bringup.encoder_recipe import train as train_encoder

    name = Path(recipe).stem
    path = out or Path(f"{name}.safetensors")
    _check_free(path, force)
    train_encoder(load_recipe(recipe), name, seed, path, typer.echo)


def _check_free(path: Path, force: bool) -> None:
    if path.suffix != ".safetensors":
        raise CommandError(f"{path}: expected a name that ends in .safetensors")
    if path.exists() and not force:
        raise CommandError(f"{path} exists: choose another --out, or --force to replace it")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.absolute().parent}")
