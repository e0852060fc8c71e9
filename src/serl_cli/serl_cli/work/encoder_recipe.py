# SPDX-License-Identifier: Apache-2.0
"""Recipes of encoders: which pictures are rendered, and how an encoder is trained on them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import ConfigError, Field, config, load_yaml, suggestion
from serl_rl.config import Backend, EncoderTrainingConfig
from serl_sim.pictures.random_scenes import Label, SceneRange, label_table, labelled_pictures
from serl_sim.pictures.randomize import LookRange

from serl_config import resources
from serl_tasks import get_task

FOLDER = "config/encoders"


@config(kw_only=True)
class EncoderRecipe:
    """``config/encoders/<name>.yaml``: all that decides about the weights in ``<name>.safetensors``, but the seed."""

    kind: str = Field(description="of encoder")
    task: str = Field(description="whose cameras and world the pictures are of")
    frames: int = Field(ge=1, le=100_000, description="pictures of each camera to train on")
    validation_frames: int = Field(default=500, ge=1, le=100_000, description="of each camera, for either measurement")
    scenes: SceneRange = Field(default_factory=SceneRange)
    training: EncoderTrainingConfig = Field(default_factory=EncoderTrainingConfig)


def load_recipe(name: str) -> EncoderRecipe:
    """Load ``config/encoders/<name>.yaml``, or the file that `name` is the path of.

    Raises:
        ConfigError: there is no such recipe, or it holds a key or value that it cannot have.
    """
    if name.endswith((".yaml", ".yml")):
        return load_yaml(Path(name), EncoderRecipe)
    known = resources.listing(FOLDER, ".yaml")
    if name not in known:
        raise ConfigError(f"unknown recipe {name!r}" + suggestion(name, [*known]))
    return load_yaml(known[name], EncoderRecipe)


def train(
    recipe: EncoderRecipe, name: str, seed: int, path: Path, backend: Backend, say: Callable[[str], None]
) -> None:
    """Render, train, measure, write. The same recipe, seed and backend give the same weights on the same machine.

    Args:
        recipe: what to do.
        name: of the weights, for people.
        seed: of everything random.
        path: of the file to write.
        backend: that computes.
        say: told what goes on, a line at a time.

    Raises:
        BackendError: the backend is not installed.
        EncoderError: there is no such kind of encoder.
        ConfigError, RenderError, ValueError: the task has no cameras, or pictures of it cannot be made here.
        OSError: the file cannot be written.
    """
    from serl_rl.backends import encoder_computation
    from serl_rl.encoders.architecture import parameter_shapes
    from serl_rl.encoders.file import EncoderDescription, write_encoder
    from serl_rl.encoders.training.labelled import train_encoder

    parameter_shapes(recipe.kind)
    computation = encoder_computation(backend)
    task = get_task(recipe.task)
    plain = replace(recipe.scenes, looks=LookRange(plain=1.0), sharp=1.0)
    seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
    say(f"rendering {recipe.frames} moments of {task.name} by {', '.join(task.cameras)}")
    data = labelled_pictures(task, recipe.scenes, recipe.frames, seeds[0])
    trained = train_encoder(
        recipe.kind,
        data,
        recipe.training,
        seed,
        computation.label_fitting,
        lambda epoch, loss: say(f"epoch {epoch}/{recipe.training.epochs}: loss {loss:.4f}"),
    )
    metrics: dict[str, float] = {}
    for setting, scenes, scene_seed in (("random", recipe.scenes, seeds[1]), ("plain", plain, seeds[2])):
        errors = trained.errors(labelled_pictures(task, scenes, recipe.validation_frames, scene_seed))
        metrics |= {f"{setting}/{key}": value for key, value in named_errors(errors, label_table(task)).items()}
    description = EncoderDescription(
        kind=recipe.kind,
        name=name,
        cameras=tuple(task.cameras),
        worlds=(task.world,),
        seed=seed,
        recipe=asdict(recipe),
        metrics=metrics,
    )
    written = write_encoder(path, trained.encoder.weights, description)
    for line in metrics_table(metrics):
        say(line)
    say(f"{path}: {path.stat().st_size / 1e3:.0f} kB, hash {written.hash}")


def named_errors(errors: Mapping[str, NDArray[np.float64]], labels: tuple[Label, ...]) -> dict[str, float]:
    """Means by "camera/label" of the errors (T,) of each camera; labels that a camera cannot tell are left out."""
    found = {}
    for camera, values in errors.items():
        ends = np.cumsum([label.size for label in labels])
        for label, end in zip(labels, ends, strict=True):
            mean = float(values[end - label.size : end].mean()) * label.scale
            if np.isfinite(mean):
                unit = "_" + label.unit.replace(" ", "_") if label.unit else ""
                found[f"{camera}/{label.name}{unit}"] = round(mean, 4)
    return found


def metrics_table(metrics: Mapping[str, float]) -> list[str]:
    """Mean absolute errors as lines of text, those of plain and random looks beside each other."""
    names = [key.partition("/")[2] for key in metrics if key.startswith("plain/")]
    lines = [f"{'mean absolute error':44}{'plain':>8}{'random':>8}"]
    return lines + [f"{name:44}{metrics[f'plain/{name}']:8.2f}{metrics[f'random/{name}']:8.2f}" for name in names]
