# SPDX-License-Identifier: Apache-2.0
"""Reward classifiers of PyTorch say, learn and keep what those of JAX do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="./serl setup torch")

import jax  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from serl_rl.backends import classifier_computation, load_classifier  # noqa: E402
from serl_rl.config import RewardClassifierConfig  # noqa: E402
from serl_rl.encoders.encoder import Encoder  # noqa: E402
from serl_rl.jax.reward import classifier as jax_classifier  # noqa: E402
from serl_rl.jax.reward import training as jax_training  # noqa: E402
from serl_rl.reward.classifier import head_shapes  # noqa: E402
from serl_rl.reward.data import EpisodeBuilder, FrameSource, RewardEpisode, View  # noqa: E402
from serl_rl.reward.training import train_classifier  # noqa: E402
from serl_rl.storage.nested import by_path  # noqa: E402
from serl_rl.torch.computing import random  # noqa: E402
from serl_rl.torch.computing.optimizer import gradients  # noqa: E402
from serl_rl.torch.reward import classifier, training  # noqa: E402

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SOURCE = FrameSource("pick", {"front": View(32, 32), "wrist": View(32, 48)}, ("apart", "held", "done"))
CONFIG = RewardClassifierConfig(
    weights="random", frozen=False, steps=60, batch_size=6, dropout=0.0, embeddings=2, width=8, weight_decay=0.01
)
SMALL = Encoder.random("small", 0)


def nowhere(path: str) -> Path:
    raise FileNotFoundError(path)


def batch(seed: int) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, (6, *view.shape), dtype=np.uint8) for name, view in SOURCE.views.items()}


def only_front(seed: int) -> dict[str, NDArray[np.uint8]]:
    return {"front": batch(seed)["front"]}


TARGETS = np.array([0, 0, 1, 1, 2, 2])


def compare(found: Any, expected: Any, tolerance: float) -> None:
    """Arrays in dictionaries, each to a share of its largest value."""
    ours, theirs = by_path(found), by_path(jax.device_get(expected))
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(np.asarray(ours[name].detach()), array, rtol=0, atol=tolerance * scale, err_msg=name)


def test_loss_slopes_and_parameters_after_1_and_50_updates_are_those_of_jax() -> None:
    # One camera of the three stages: what is compared takes most of its time to compile.
    source = FrameSource("pick", {"front": SOURCE.views["front"]}, SOURCE.stages)
    start = jax_classifier.RewardClassifier.untrained(source, CONFIG, SMALL)
    theirs, ours = jax_training.Fitting(start, CONFIG), training.Fitting(start, CONFIG)
    shown, key = only_front(0), random.from_seed(9)
    rows = {name: torch.tensor(values) for name, values in shown.items()}
    expected, slopes = jax.jit(jax.value_and_grad(theirs.loss))(theirs.params, jax.random.key(9), shown, TARGETS)
    loss = ours.loss(ours.params, key, rows, torch.tensor(TARGETS))
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    found, _ = gradients(lambda params: (ours.loss(params, key, rows, torch.tensor(TARGETS)), {}), ours.params)
    compare(found, slopes, 1e-5)
    for number in range(50):
        for fitting in (theirs, ours):
            fitting.step(number, only_front(number), TARGETS)
        if number in (0, 49):
            compare(ours.params, theirs.params, 1e-4)
    assert ours.result()[0].hash != SMALL.hash


def test_new_parameters_have_the_names_and_shapes_that_are_known_without_a_backend() -> None:
    info = jax_classifier.RewardClassifier.untrained(SOURCE, CONFIG, SMALL).info
    for head in (classifier.initial_head(info, 0), jax.eval_shape(lambda: jax_classifier.initial_head(info, 0))):
        assert {name: tuple(leaf.shape) for name, leaf in by_path(head).items()} == head_shapes(info)


def test_a_file_of_one_backend_says_the_same_in_the_other(tmp_path: Path) -> None:
    shown = batch(1)
    made = classifier.RewardClassifier.untrained(SOURCE, CONFIG, SMALL, seed=3)
    made.save(tmp_path / "torch.safetensors")
    found = load_classifier(tmp_path / "torch.safetensors", nowhere, "jax")
    np.testing.assert_allclose(found.logits(shown), made.logits(shown), rtol=1e-5, atol=1e-5)
    found.save(tmp_path / "jax.safetensors")
    back = load_classifier(tmp_path / "jax.safetensors", nowhere, "torch")
    assert back.info == made.info
    np.testing.assert_array_equal(back.logits(shown), made.logits(shown))


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    x = torch.ones(200, 50)
    dropped = classifier._dropped(x, (0.3, random.from_seed(0)), 0)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert (dropped != classifier._dropped(x, (0.3, random.from_seed(0)), 1)).any(), "each layer drops its own"


def episode(seed: int) -> RewardEpisode:
    rng, builder = np.random.default_rng(seed), EpisodeBuilder(FrameSource("pick", {"front": View(32, 32)}), "truth")
    for label in [0] * 8 + [1] * 8:
        picture = rng.integers(60, 120, (32, 32, 3)).astype(np.uint8)
        row, column = 22 - 20 * label, int(rng.integers(0, 22))
        picture[row : row + 8, column : column + 8] = (220, 40, 40)
        builder.add({"front": picture}, label)
    return builder.build()


def test_a_classifier_learns_from_cached_views() -> None:
    config = RewardClassifierConfig(weights="random", views=2, steps=60, batch_size=16, consecutive=2)
    episodes = [episode(seed) for seed in range(5)]
    trained, report = train_classifier(
        episodes[:3], episodes[3:], config, SMALL, computation=classifier_computation("torch")
    )
    assert report.area > 0.8
    assert report.false_successes.count == 0
    assert trained.encoder is SMALL
