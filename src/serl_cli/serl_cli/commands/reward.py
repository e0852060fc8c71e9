# SPDX-License-Identifier: Apache-2.0
"""``serl reward``: classifiers that tell from pictures whether the task is done, and a person who tells it."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from serl_launch.errors import UsageError

from serl_cli.commands.help import documented
from serl_cli.commands.options import BackendOption, GraphOption, SeedOption, TaskArgument
from serl_cli.ranges import LARGEST_COUNT
from serl_cli.weights_file import check_free

reward = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

importing = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

FilesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Frames of ./serl reward record.")
]


def _record(
    task: TaskArgument = "pick_cube_vision",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to add to. Default: TASK.frames.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Episodes to record.")] = 100,
    frames: Annotated[
        int, typer.Option(min=2, max=LARGEST_COUNT, help="Frames of an episode that is driven for this.")
    ] = 60,
    label: Annotated[
        Literal["truth", "keys", "button"],
        typer.Option(help="Who says what a frame shows: the simulator, keys, or the topic reward/label."),
    ] = "truth",
    attach: Annotated[
        bool, typer.Option("--attach", help="Listen to a running graph; keys and button always do.")
    ] = False,
    stages: Annotated[
        str, typer.Option(help="Names of what frames can show, success last, for keys.")
    ] = "failure,success",
    max_skew: Annotated[
        float, typer.Option(min=0.0, help="Most seconds between pictures of different cameras in one frame.")
    ] = 0.0,
    graph: GraphOption = "",
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option("--force", help="Begin the file anew.")] = False,
) -> None:
    """Record labelled frames: of a simulated world that is moved through all states of the task, or of a running graph.

    Each episode is on the disk as soon as it is over. With --label keys press [bold]s[/bold] when the task is done and
    [bold]f[/bold] when it is not any more; what is pressed holds until the next key or episode.

    Examples:
        ./serl reward record
        ./serl reward record --label keys --max-skew 0.05
        ./serl reward record --attach --out policy.frames
    """
    from serl_cli.reward import record_frames

    names = tuple(name.strip() for name in stages.split(","))
    path = out or Path(f"{task}.frames")
    if label == "truth" and names != ("failure", "success"):
        raise UsageError("--stages: the truth knows failure and success only; other stages need --label keys")
    if label == "truth" and not attach:
        record_frames.drive(task, path, episodes=episodes, frames=frames, seed=seed, force=force)
    else:
        record_frames.listen(
            task,
            path,
            episodes=episodes,
            labelled_by=label,
            stages=names,
            graph=graph,
            max_skew=max_skew,
            force=force,
        )


def _train(
    files: FilesArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Classifier to write. Default: NAME.classifier.safetensors."),
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Frames to hold out, instead of a share of the episodes."),
    ] = None,
    false_positives: Annotated[
        float, typer.Option(min=0.0, max=0.49, help="Share of failures that may look like success.")
    ] = 0.002,
    consecutive: Annotated[
        int, typer.Option(min=1, max=LARGEST_COUNT, help="Frames in a row that make a success.")
    ] = 2,
    encoder: Annotated[
        str, typer.Option(help="Kind of encoder: small, resnet10, resnet18, resnet34 or mobilenet.")
    ] = "small",
    weights: Annotated[str, typer.Option(help="Its weights: auto, random, one of config/encoders, a file.")] = "auto",
    trainable: Annotated[bool, typer.Option("--trainable", help="Train the encoder, too; takes much longer.")] = False,
    steps: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Steps of the optimizer.")] = 2000,
    backend: BackendOption = "jax",
    seed: SeedOption = 0,
) -> None:
    """Train a classifier, judge and calibrate it on held-out episodes, choose its threshold.

    Examples:
        ./serl reward train pick_cube_vision.frames
        ./serl reward train day1.frames day2.frames --false-positives 0.001 --consecutive 3
    """
    from serl_config.schema import ConfigError, build
    from serl_rl.config import RewardClassifierConfig

    from serl_cli.reward import train_classifier

    values = {
        "encoder": encoder,
        # Nodes, which may run in another folder, find the encoder by this.
        "weights": str(Path(weights).absolute()) if weights.endswith(".safetensors") else weights,
        "frozen": not trainable,
        "steps": steps,
        "false_positive_rate": false_positives,
        "consecutive": consecutive,
    }
    try:
        config = build(RewardClassifierConfig, values, "options")
    except ConfigError as error:
        raise UsageError(str(error)) from error
    train_classifier.train(files, out, validation or [], config, seed, backend)


def _check(
    classifier: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Classifier to check.")],
    files: FilesArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PAGE", help="Page to write. Default: in a folder in runs.")
    ] = None,
    backend: BackendOption = "jax",
) -> None:
    """Judge frames that a classifier has not seen, and make a page of its worst mistakes.

    Examples:
        ./serl reward check pick_cube_vision.classifier.safetensors pick_cube_vision.frames
    """
    from serl_cli.reward import check_classifier

    check_classifier.check(classifier, files, out, backend)


def _label(graph: GraphOption = "", namespace: Annotated[str, typer.Option(help="Namespace of the arm.")] = "") -> None:
    """Say with the keys [bold]s[/bold] and [bold]f[/bold] when an episode has succeeded or failed, which ends it.

    For a graph with reward:=human.

    Examples:
        ./serl reward label
    """
    from serl_cli.reward import labelling_node

    labelling_node.label(graph, namespace)


@importing.callback()
def import_overview() -> None:
    """Take over a classifier that another stack trained.

    Examples:
        ./serl reward import lerobot outputs/train/reward_classifier/checkpoints/last/pretrained_model
    """


@importing.command("lerobot")
def import_lerobot(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="Directory of LeRobot's reward classifier.")],
    task: Annotated[str, typer.Option(metavar="TASK", help="Task that it judges.")] = "pick_cube_vision",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Classifier to write. Default: TASK.classifier.safetensors."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            "--camera",
            metavar="NAME=CAMERA",
            help="Camera of the task that a picture is of. Default: the last part of its name.",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability from which a frame counts as success.")
    ] = 0.5,
    consecutive: Annotated[
        int, typer.Option(min=1, max=LARGEST_COUNT, help="Frames in a row that make a success.")
    ] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Take over a reward classifier of LeRobot's HIL-SERL, for the same pictures: its judgements are LeRobot's.

    What is written is a classifier as any other: for [bold]./serl reward check[/bold] and --reward classifier.

    Examples:
        ./serl reward import lerobot reward_classifier --task pick_cube_vision
        ./serl reward import lerobot reward_classifier --camera observation.images.top=front --threshold 0.7
    """
    from serl_cli.reward.import_classifier import import_lerobot as convert

    path = out or Path(f"{task}.classifier.safetensors")
    check_free(path, force)
    convert(source, path, task, camera or [], threshold, consecutive, typer.echo)


reward.add_typer(importing, name="import")

for _name, _command in (("record", _record), ("train", _train), ("check", _check), ("label", _label)):
    reward.command(_name, **documented(_command))(_command)


@reward.callback()
def reward_overview() -> None:
    """Let a classifier of pictures, or a person, say when the task is done.

    Examples:
        ./serl reward record
        ./serl reward train pick_cube_vision.frames
        ./serl train pick_cube_vision --reward classifier --classifier pick_cube_vision.classifier.safetensors
    """
