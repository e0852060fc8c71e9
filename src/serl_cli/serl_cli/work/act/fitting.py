# SPDX-License-Identifier: Apache-2.0
"""Fits an ACT policy to episodes of a task, and writes it as a directory of LeRobot's with its mapping file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import yaml
from serl_config.resources import find
from serl_config.schema import ConfigError, Field, build, config
from serl_launch.errors import CommandError, UsageError
from serl_launch.runs import write_atomically
from serl_rl.config import EncoderConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.loading import load_encoder
from serl_rl.encoders.robot_pictures import PictureEpisode, resized
from serl_rl.foreign.act.config import ACTION, STATE, ActConfig, parse_config
from serl_rl.foreign.act.demonstrations import PICTURES, SMALL_SIZES, fitting_config
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import parameter_shapes
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.files import check_shapes
from serl_rl.imported.opening import MAPPING

from serl_cli.work.convert_act import configured, trained
from serl_tasks import Task

_OWN: Final = ("epochs", "batch_size", "picture_size", "shift", "views", "encoder")
NO_ENCODER: Final = "none"

_ANY: Final = parse_config(
    {
        "input_features": {
            f"{PICTURES}any": {"type": "VISUAL", "shape": [3, 64, 64]},
            STATE: {"type": "STATE", "shape": [1]},
        },
        "output_features": {ACTION: {"type": "ACTION", "shape": [1]}},
    },
    "any policy",
)

Say = Callable[[str], None]


@config(kw_only=True)
class ActRecipe:
    """How an ACT policy is trained."""

    epochs: int = Field(80, ge=1, le=10**6)
    """How often each moment is learned from."""
    batch_size: int = Field(32, ge=1, le=10**4)
    """Moments in a batch."""
    encoder: str = "auto"
    """The encoder of kind `small` that new weights of the ResNet compute, and that is not trained: auto, a name in
    config/encoders or a file, as `vision.encoder.weights`; none: the ResNet is drawn and trained."""
    picture_size: int = Field(128, ge=0, le=2**13)
    """Rows and columns of the pictures that it sees; 0: those of the task."""
    shift: int = Field(4, ge=0, le=2**10)
    """Most pixels, of the pictures that it sees, by which these are moved at random in training."""
    views: int = Field(2, ge=1, le=64)
    """Moved versions of each picture, where the ResNet is not trained: the maps of all are made once."""
    policy: tuple[str, ...] = ()
    """Fields of the policy's config.json, each as NAME=VALUE."""


def read_recipe(settings: Sequence[str]) -> ActRecipe:
    """The recipe of `--set`s, each KEY=VALUE, where KEY is a field of the recipe or of the policy's config.json.

    Raises:
        UsageError: a field of the recipe has no such value.
        CommandError: one is a field of neither, or has no such value.
    """
    own: dict[str, int | str] = {}
    policy = [f"{name}={value}" for name, value in SMALL_SIZES.items()]
    if f"encoder={NO_ENCODER}" not in settings:
        policy.append("optimizer_lr_backbone=0")
    for setting in settings:
        name, separator, value = setting.partition("=")
        if name not in _OWN:
            policy.append(setting)
            continue
        if not separator or not (value if name == "encoder" else value.isdecimal()):
            raise UsageError(f"--set {setting[:80]}: expected {name}={'NAME' if name == 'encoder' else 'NUMBER'}")
        own[name] = value if name == "encoder" else int(value)
    configured(_ANY, policy)  # before a person gives demonstrations in vain
    try:
        return build(ActRecipe, {**own, "policy": policy}, "--set")
    except ConfigError as error:
        raise UsageError(str(error)) from error


def recipe_tree(recipe: ActRecipe) -> dict[str, Any]:
    """The recipe as a run's learning.yaml holds it."""
    return {"agent": "act", **asdict(recipe), "policy": list(recipe.policy)}


def fit(
    episodes: Sequence[PictureEpisode],
    recipe: ActRecipe,
    seed: int,
    say: Say,
    report: Callable[[int, Mapping[str, float]], None] = lambda _epoch, _losses: None,
    start: ActCheckpoint | None = None,
    source: Path | None = None,
    encoder: Encoder | None = None,
) -> ActCheckpoint:
    """Train a policy on episodes.

    Args:
        episodes: of one task.
        recipe: how.
        seed: of all that is drawn.
        say: told how it goes, a line at a time.
        report: told the mean losses of each epoch.
        start: a policy whose weights are the first ones, and whose sizes are taken; None: new ones.
        source: where that policy was, for errors.
        encoder: that new weights of the ResNet compute, as `encoder_of` finds it; None: they are drawn.

    Raises:
        CommandError: a setting of the policy is unknown or impossible.
        DataError: there is too little to learn from, the encoder does not fit into the policy, or the loss is no number
            any more.
        ForeignError: the first weights are those of another architecture, or of other observations.
    """
    seen = [_seen(episode, recipe.picture_size, start) for episode in episodes]
    if start is None:
        policy = configured(fitting_config(seen), recipe.policy)
    else:
        policy = _like(start.config, fitting_config(seen))
        check_shapes(source or Path(), start.parameters, parameter_shapes(policy))
    every = max(1, recipe.epochs // 10)
    return trained(
        seen,
        policy,
        recipe.epochs,
        recipe.batch_size,
        seed,
        start,
        say,
        every=every,
        report=report,
        shift=recipe.shift,
        views=recipe.views,
        encoder=encoder if start is None else None,
    )


def encoder_of(recipe: ActRecipe, task: Task, *, simulated: bool = True) -> Encoder | None:
    """The encoder that a recipe asks for, None for none.

    Args:
        recipe: of the training.
        task: whose cameras are looked through.
        simulated: whether they look at the task's simulated world, not at a real one.

    Raises:
        CommandError: there is none, or it was trained for another world or other cameras.
    """
    if recipe.encoder == NO_ENCODER:
        return None
    config = EncoderConfig(kind="small", weights=recipe.encoder)
    try:
        return load_encoder(config, tuple(task.cameras), find, world=task.world if simulated else None)
    except EncoderError as error:
        raise CommandError(f"{error}; --set encoder={NO_ENCODER} draws and trains the ResNet itself") from error


def write_directory(path: Path, checkpoint: ActCheckpoint) -> None:
    """Write a policy as a new directory that LeRobot loads, with the mapping file that our commands take.

    Raises:
        ForeignError: there is something already.
        OSError: it cannot be written.
    """
    write_act(path, checkpoint)
    cameras = {name: name.removeprefix(PICTURES) for name in checkpoint.config.cameras}
    write_atomically(path / MAPPING, yaml.safe_dump({"cameras": cameras}))


def _seen(episode: PictureEpisode, size: int, start: ActCheckpoint | None) -> PictureEpisode:
    if start is not None and start.config.cameras:
        _, height, width = start.config.input_features[start.config.cameras[0]].shape
        return resized(episode, height, width)
    return resized(episode, size, size) if size else episode


def _like(config: ActConfig, fitting: ActConfig) -> ActConfig:
    """The policy's own configuration, for the inputs and outputs of the episodes."""
    return replace(config, input_features=fitting.input_features, output_features=fitting.output_features)
