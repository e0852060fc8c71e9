# SPDX-License-Identifier: Apache-2.0
"""An encoder trained on labelled pictures learns what is in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from serl_rl.config import EncoderTrainingConfig
from serl_rl.encoders.training.labelled import train_encoder
from serl_rl.jax.encoders.training import LabelFitting


@dataclass(frozen=True)
class Pictures:
    pictures: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def bright_spots(count: int, seed: int) -> dict[str, Pictures]:
    """Two cameras that see a bright square; labels: where it is, and one without weight and sense."""
    rng = np.random.default_rng(seed)
    data = {}
    for name in ("a", "b"):
        pictures = rng.integers(0, 60, (count, 64, 64, 3), dtype=np.uint8)
        places = rng.integers(0, 52, (count, 2))
        for picture, (x, y) in zip(pictures, places, strict=True):
            picture[y : y + 12, x : x + 12] = 250
        labels = np.concatenate([places / 26.0 - 1.0, 1e3 * rng.standard_normal((count, 1))], 1).astype(np.float32)
        data[name] = Pictures(pictures, labels, np.tile(np.float32([1, 1, 0]), (count, 1)))
    return data


CONFIG = EncoderTrainingConfig(epochs=5, batch_size=32, learning_rate=3e-3)


def test_training_lowers_the_loss_and_predicts_unseen_pictures() -> None:
    losses: list[float] = []
    trained = train_encoder("small", bright_spots(512, 0), CONFIG, 0, LabelFitting, lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.4 * losses[0]
    errors = trained.errors(bright_spots(100, 1))
    for name in ("a", "b"):
        assert errors[name].shape == (3,)
        assert errors[name][:2].max() < 0.35  # guessing: 0.5
        assert np.isnan(errors[name][2])
    assert all((values == values.astype(np.float16)).all() for values in trained.encoder.weights.values())


@pytest.mark.usefixtures("cheap_compilation")
def test_the_same_seed_gives_the_same_weights() -> None:
    data, config = {"a": bright_spots(64, 0)["a"]}, replace(CONFIG, epochs=1)
    first, again, other = (train_encoder("small", data, config, seed, LabelFitting).encoder.hash for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("count", [0, 10])
def test_too_few_or_unequal_pictures_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="expected at least 32 pictures of one size"):
        train_encoder("small", bright_spots(count, 0), CONFIG, 0, LabelFitting)
    data = bright_spots(64, 0)
    data["b"] = bright_spots(40, 0)["b"]
    with pytest.raises(ValueError, match="of one size"):
        train_encoder("small", data, CONFIG, 0, LabelFitting)
