# SPDX-License-Identifier: Apache-2.0
"""Encoders are trained and adapted in PyTorch as in JAX: the same draws, losses and parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="./serl setup torch")

import jax  # noqa: E402
from serl_rl.backends import encoder_computation  # noqa: E402
from serl_rl.config import EncoderAdaptingConfig, EncoderTrainingConfig  # noqa: E402
from serl_rl.encoders.encoder import Encoder  # noqa: E402
from serl_rl.encoders.robot_pictures import PictureEpisode  # noqa: E402
from serl_rl.encoders.training.adapting import adapt_encoder  # noqa: E402
from serl_rl.encoders.training.labelled import train_encoder  # noqa: E402
from serl_rl.jax.encoders import adapting as jax_adapting  # noqa: E402
from serl_rl.storage.nested import by_path  # noqa: E402
from serl_rl.torch.computing import random  # noqa: E402
from serl_rl.torch.encoders import adapting  # noqa: E402
from serl_rl.torch.reward.classifier import as_tensors  # noqa: E402

pytestmark = pytest.mark.usefixtures("cheap_compilation")

JAX, TORCH = encoder_computation("jax"), encoder_computation("torch")
SMALL = Encoder.random("small", 0)


@dataclass(frozen=True)
class Labelled:
    """Pictures of one camera, what is to be seen in them, and how much each label counts."""

    pictures: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def bright_spots(count: int, seed: int) -> dict[str, Labelled]:
    """Two cameras that see a bright square; labels: its column and row, and one without sense that never counts."""
    rng, data = np.random.default_rng(seed), {}
    for name in ("a", "b"):
        pictures = rng.integers(0, 60, (count, 32, 32, 3), dtype=np.uint8)
        places = rng.integers(0, 24, (count, 2))
        for picture, (x, y) in zip(pictures, places, strict=True):
            picture[y : y + 8, x : x + 8] = 250
        labels = np.concatenate([places / 12.0 - 1.0, 1e3 * rng.standard_normal((count, 1))], 1).astype(np.float32)
        data[name] = Labelled(pictures, labels, np.tile(np.float32([1, 0.5, 0]), (count, 1)))
    return data


def episodes(count: int) -> list[PictureEpisode]:
    """Of a robot that is a bright square before a camera and knows its place."""
    rng, found = np.random.default_rng(2), []
    for _ in range(count):
        way = np.clip(np.cumsum(rng.normal(0.0, 2.0, (9, 2)), axis=0) + rng.uniform(2, 10, 2), 0, 12).astype(int)
        pictures = rng.integers(0, 80, (9, 16, 16, 3), dtype=np.uint8)
        for picture, (x, y) in zip(pictures, way, strict=True):
            picture[y : y + 4, x : x + 4] = (230, 60, 40)
        state = (way / 6.0 - 1.0).astype(np.float32)
        found.append(PictureEpisode({"front": pictures}, state, np.diff(state, axis=0)))
    return found


def with_the_same_parameters(ours: Any, theirs: Any) -> Any:
    params = jax.device_get(theirs.params)
    assert {name: leaf.shape for name, leaf in by_path(ours.params).items()} == {
        name: leaf.shape for name, leaf in by_path(params).items()
    }
    ours.params = as_tensors(params, torch.device("cpu"))
    return ours


class Both:
    """Trains in both backends, on the same minibatches, from the parameters of JAX; notes losses and differences."""

    def __init__(self, ours: Any, theirs: Any) -> None:
        self.ours, self.theirs = with_the_same_parameters(ours, theirs), theirs
        self.losses: list[tuple[float, float]] = []
        self.differences: list[float] = []

    def step(self, batch: Any) -> float:
        self.losses.append((float(self.ours.step(batch)), float(self.theirs.step(batch))))
        ours, theirs = by_path(self.ours.params), by_path(jax.device_get(self.theirs.params))
        self.differences.append(max(float(np.abs(ours[name].numpy() - leaf).max()) for name, leaf in theirs.items()))
        return self.losses[-1][0]

    def weights(self) -> Any:
        return self.ours.weights()

    def check(self, updates: int) -> None:
        assert len(self.losses) == updates
        assert self.losses[0][0] == pytest.approx(self.losses[0][1], rel=1e-5)
        assert self.differences[0] < 1e-4 and self.differences[-1] < 1e-4
        assert np.mean(self.losses[-5:]) < 0.8 * np.mean(self.losses[:5]), "it learns"


def test_training_is_that_of_jax_after_1_and_50_updates() -> None:
    made: list[Both] = []

    def both(*arguments: Any) -> Both:
        made.append(Both(TORCH.label_fitting(*arguments), JAX.label_fitting(*arguments)))
        return made[-1]

    config = EncoderTrainingConfig(epochs=5, batch_size=8)
    train_encoder("small", bright_spots(80, 0), config, 0, both)  # type: ignore[arg-type]
    made[0].check(50)


def test_adapting_is_that_of_jax_after_1_and_50_updates() -> None:
    made: list[Both] = []

    def both(*arguments: Any) -> Both:
        made.append(Both(TORCH.adapting_fitting(*arguments), JAX.adapting_fitting(*arguments)))
        return made[-1]

    config = EncoderAdaptingConfig(steps=50, batch_size=8, shift=1)
    adapt_encoder(SMALL, episodes(4), config, 0, both)
    made[0].check(50)


def test_pictures_are_changed_with_the_draws_of_jax() -> None:
    shown, config = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), dtype=np.uint8), EncoderAdaptingConfig()
    expected = jax_adapting.changed(jax.random.key(3), shown, config)
    found = adapting.changed(random.from_seed(3), torch.tensor(shown), config)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-3)


def test_what_was_trained_tells_what_is_in_pictures_that_it_has_not_seen() -> None:
    config = EncoderTrainingConfig(epochs=5, batch_size=32, learning_rate=5e-3)
    trained = train_encoder("small", bright_spots(512, 0), config, 0, TORCH.label_fitting)
    errors = trained.errors(bright_spots(300, 1))
    for name in ("a", "b"):
        assert errors[name][:2].max() < 0.35, "guessing: 0.5"
        assert np.isnan(errors[name][2])
    shown = bright_spots(300, 1)["b"]
    told = trained.fitting.labels(trained.encoder, "b", shown.pictures)
    np.testing.assert_allclose(errors["b"][:2], np.abs(told - shown.labels).mean(axis=0)[:2], rtol=1e-5)


def test_the_same_seed_gives_the_same_weights_rounded_as_in_files() -> None:
    data, config = {"a": bright_spots(32, 0)["a"]}, EncoderTrainingConfig(epochs=1, batch_size=16)
    first, again, other = (train_encoder("small", data, config, seed, TORCH.label_fitting) for seed in (0, 0, 1))
    assert first.encoder.hash == again.encoder.hash != other.encoder.hash
    quick = EncoderAdaptingConfig(steps=2, batch_size=8)
    adapted = [
        adapt_encoder(SMALL, episodes(2), replace(quick, noise=noise), 0, TORCH.adapting_fitting)
        for noise in (0.0, 0.0, 0.1)
    ]
    assert adapted[0].hash == adapted[1].hash != adapted[2].hash
    for encoder in (first.encoder, adapted[0]):
        assert all((values == values.astype(np.float16)).all() for values in encoder.weights.values())
