# SPDX-License-Identifier: Apache-2.0
"""Fits an ACT policy to episodes of a task, and writes it as a directory of LeRobot's with its mapping file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import yaml
from serl_config.schema import ConfigError, Field, build, config
from serl_launch.errors import UsageError
from serl_launch.runs import write_atomically
from serl_rl.encoders.robot_pictures import PictureEpisode, resized
from serl_rl.foreign.act.config import ACTION, STATE, ActConfig, parse_config
from serl_rl.foreign.act.demonstrations import PICTURES, SMALL_SIZES, fitting_config
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import parameter_shapes
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.files import check_shapes
from serl_rl.imported.opening import MAPPING

from serl_cli.work.convert_act import configured, trained

_OWN: Final = ("epochs", "batch_size", "picture_size", "shift")

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

    epochs: int = Field(60, ge=1, le=10**6)
    """How often each moment is learned from."""
    batch_size: int = Field(16, ge=1, le=10**4)
    """Moments in a batch."""
    picture_size: int = Field(32, ge=0, le=2**13)
    """Rows and columns of the pictures that it sees; 0: those of the task."""
    shift: int = Field(1, ge=0, le=2**10)
    """Most pixels, of the pictures that it sees, by which these are moved at random in training."""
    policy: tuple[str, ...] = ()
    """Fields of the policy's config.json, each as NAME=VALUE."""


def read_recipe(settings: Sequence[str]) -> ActRecipe:
    """The recipe of `--set`s, each KEY=VALUE, where KEY is a field of the recipe or of the policy's config.json.

    Raises:
        UsageError: a field of the recipe has no such value.
        CommandError: one is a field of neither, or has no such value.
    """
    own: dict[str, int] = {}
    policy = [f"{name}={value}" for name, value in SMALL_SIZES.items()]
    for setting in settings:
        name, separator, value = setting.partition("=")
        if name not in _OWN:
            policy.append(setting)
            continue
        if not separator or not value.isdecimal():
            raise UsageError(f"--set {setting[:80]}: expected {name}=NUMBER")
        own[name] = int(value)
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

    Raises:
        CommandError: a setting of the policy is unknown or impossible.
        DataError: there is too little to learn from, or the loss is no number any more.
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
        seen, policy, recipe.epochs, recipe.batch_size, seed, start, say, every=every, report=report, shift=recipe.shift
    )


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
