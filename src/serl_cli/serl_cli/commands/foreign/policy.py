# SPDX-License-Identifier: Apache-2.0
"""``serl policy``: policies that other stacks made, in and out."""

import os
from pathlib import Path
from typing import Annotated

import typer
from serl_launch.errors import CommandError, UsageError

from serl_cli.commands.options import MappingOption, SeedOption, complete_task
from serl_cli.ranges import LARGEST_COUNT
from serl_cli.weights_file import check_free

policy = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
importing = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
exporting = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
training = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@policy.callback()
def policy_overview() -> None:
    """Take over policies that other stacks made, and write ours as theirs.

    Examples:
        ./serl policy import act my_policy
        ./serl policy train act demonstrations.serl
        ./serl policy export act my_policy.safetensors --out act_policy
        ./serl policy distill improved --to act:act_improved
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


@training.callback()
def train_overview() -> None:
    """Train a policy of another stack's kind on recordings.

    Examples:
        ./serl policy train act demonstrations.serl
    """


policy.add_typer(importing, name="import")
policy.add_typer(exporting, name="export")
policy.add_typer(training, name="train")


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

    path = out or Path(f"{Path(os.path.realpath(source)).name}.safetensors")
    check_free(path, force)
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

    _check_parent(out)
    export_policy(source, out, typer.echo)


@training.command("act")
def train_act(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Demonstration files with pictures.", exists=True)
    ],
    epochs: Annotated[int, typer.Option(min=1, max=10**6, help="How often each moment is learned from.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, max=10**4, help="Moments in a batch.")] = 8,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A field of the policy's config.json, as chunk_size=20."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="PATH", exists=True, help="ACT policy with whose weights it begins.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")] = Path("act.safetensors"),
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Train an ACT policy on recordings, in JAX, as LeRobot's trainer does.

    Its actions are those of the recorded task. [bold]./serl policy export act[/bold] makes a LeRobot directory of it.

    Examples:
        ./serl record pick_cube_vision --out demonstrations.serl
        ./serl policy train act demonstrations.serl --set chunk_size=20 --set n_action_steps=10 --set optimizer_lr=1e-4
    """
    from serl_cli.work.convert_act import train_policy

    check_free(out, force)
    train_policy(sources, setting or [], start, out, epochs, batch_size, seed, typer.echo)


@policy.command("distill")
def distill(
    source: Annotated[str, typer.Argument(metavar="POLICY", help="Name of a run, or its folder, or KIND:PATH.")],
    to: Annotated[str, typer.Option(metavar="act:DIRECTORY", help="New directory to write, as LeRobot loads it.")],
    task: Annotated[
        str, typer.Option(help="Task in which KIND:PATH acts; a run has its own.", autocompletion=complete_task)
    ] = "",
    mapping: MappingOption = None,
    episodes: Annotated[
        int, typer.Option(min=1, max=LARGEST_COUNT, help="Successes of the policy that ACT learns from.")
    ] = 100,
    noise: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Standard deviation of noise on its actions in every second episode, which ACT learns to undo.",
        ),
    ] = 0.25,
    eval_episodes: Annotated[
        int, typer.Option(min=1, max=LARGEST_COUNT, help="Episodes in which the result is evaluated.")
    ] = 50,
    start: Annotated[
        Path | None,
        typer.Option(metavar="PATH", exists=True, help="ACT policy whose sizes and first weights it gets."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="epochs, batch_size, encoder, picture_size, shift, views, or a field of config.json.",
        ),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Make an ACT policy of what another policy does, as after its improvement by online learning.

    The policy acts in the simulated world until it has succeeded often enough, ACT learns from these episodes, and the
    result is evaluated; what it reached stands in README.md of the directory.

    Examples:
        ./serl policy distill improved --to act:act_improved
        ./serl policy distill improved --to act:act_improved --start act_before --set epochs=30
    """
    from serl_cli.work.act.distilling import Distillation
    from serl_cli.work.act.distilling import distill as make
    from serl_cli.work.act.fitting import read_recipe

    kind, separator, path = to.partition(":")
    if kind != "act" or not separator or not path:
        raise UsageError(f"--to: expected act:DIRECTORY, found {to[:80]!r}")
    _check_parent(Path(path))
    if start is not None and any(not each.startswith(("epochs=", "batch_size=")) for each in setting or ()):
        raise UsageError("--start: the policy keeps its sizes and settings: --set epochs and batch_size alone")
    recipe = read_recipe(setting or ())
    make(
        Distillation(
            source=source,
            task=task,
            out=Path(path),
            mapping=mapping,
            episodes=episodes,
            noise=noise,
            eval_episodes=eval_episodes,
            start=start,
            recipe=recipe,
            seed=seed,
        ),
        typer.echo,
    )


def _check_parent(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise CommandError(f"{out}: there is no folder {out.absolute().parent}")
