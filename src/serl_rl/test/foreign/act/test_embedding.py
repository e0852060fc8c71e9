# SPDX-License-Identifier: Apache-2.0
"""The encoder within the ResNet of an ACT policy, and training beside a ResNet that stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.demonstrations import batches, fitting_config
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import is_of_backbone, parameter_shapes
from serl_rl.spec import DataError

LAYERS = {"n_encoder_layers": 1, "n_vae_encoder_layers": 1}
SIZES = LAYERS | {
    "chunk_size": 3,
    "n_action_steps": 3,
    "dim_model": 8,
    "n_heads": 2,
    "dim_feedforward": 8,
    "latent_dim": 2,
}
CAMERA = "observation.images.wrist"


def _pictures(count: int) -> NDArray[np.uint8]:
    """Rectangles of one colour each, as scenes have them."""
    rng = np.random.default_rng(count)
    made = np.full((count, 64, 64, 3), 90, np.uint8)
    for picture in made:
        for _ in range(6):
            y, x = rng.integers(0, 56, 2)
            height, width = rng.integers(8, 40, 2)
            picture[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return made


def _episodes() -> list[PictureEpisode]:
    rng = np.random.default_rng(0)
    state, action = (rng.normal(size=shape).astype(np.float32) for shape in ((13, 2), (12, 2)))
    return [PictureEpisode({"wrist": _pictures(13)}, state, action)]


def _first(encoder: Encoder | None, **options: object) -> ActCheckpoint:
    from serl_rl.jax.act.demonstrated import first_checkpoint

    episodes = _episodes()
    return first_checkpoint(episodes, fitting_config(episodes, **SIZES, **options), 0, encoder=encoder)


def test_the_backbone_makes_the_maps_of_the_encoder() -> None:
    from serl_rl.jax.act.backbone import feature_map, fold
    from serl_rl.jax.encoders.maps import feature_maps

    encoder = Encoder.random("small", 0)
    first = _first(encoder, optimizer_lr_backbone=0.0)
    assert {name: rows.shape for name, rows in first.parameters.items()} == parameter_shapes(first.config)
    pictures = _pictures(20)
    taken = first.normalizations[CAMERA].normalise(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    layers = fold(first.parameters, first.config)
    made = np.asarray(feature_map(layers, first.config, taken.transpose(0, 2, 3, 1)))
    wanted = feature_maps(encoder, pictures)
    assert made.shape == (20, 2, 2, 512)
    assert not made[..., 64:].any()
    # Places and channels must fit: with one place beside, hardly anything is explained.
    rest = ((made[..., :64] - wanted) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum()
    assert rest < 0.4


def test_an_encoder_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="encoder: expected one of kind small, found mobilenet"):
        _first(Encoder.random("mobilenet", 0))
    with pytest.raises(DataError, match="vision_backbone: expected resnet18 or resnet34"):
        _first(Encoder.random("small", 0), vision_backbone="resnet50")
    with pytest.raises(DataError, match="normalization_mapping: expected MEAN_STD or MIN_MAX"):
        _first(Encoder.random("small", 0), normalization_mapping={"VISUAL": "IDENTITY"})


def test_a_frozen_backbone_is_asked_once_and_stays() -> None:
    from serl_rl.jax.act.backbone import feature_map, fold
    from serl_rl.jax.act.maps import backbone_maps
    from serl_rl.jax.act.training import ActTraining

    episodes, first = _episodes(), _first(None, optimizer_lr_backbone=0.0, dropout=0.0, use_vae=False)
    norms = dict(first.normalizations)
    maps = backbone_maps(episodes, first, 1, 0, np.random.default_rng(0))
    seen = next(batches(episodes, first.config, norms, 4, np.random.default_rng(3))).pictures[0]
    moments = next(batches(episodes, first.config, norms, 4, np.random.default_rng(3), maps=maps))
    expected = feature_map(fold(first.parameters, first.config), first.config, seen)
    np.testing.assert_allclose(moments.maps[0], expected, rtol=1e-3, atol=1e-4)
    assert not moments.pictures

    training = ActTraining(first.config, first.parameters, 0)
    losses = [training.learn(moments)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0]
    after = training.parameters()
    changed = {name for name, rows in first.parameters.items() if not np.array_equal(rows, after[name])}
    assert {"action_head.weight", "encoder_img_feat_input_proj.weight"} <= changed
    assert not any(map(is_of_backbone, changed))


def test_a_backbone_that_is_known_keeps_the_statistics_of_its_pictures() -> None:
    from serl_rl.jax.act.demonstrated import first_checkpoint

    before = _first(Encoder.random("small", 0))
    assert before.statistics[CAMERA]["mean"].ravel().tolist() == [0.5] * 3
    state = {name: rows + 1 for name, rows in before.statistics["observation.state"].items()}
    start = replace(before, statistics={**before.statistics, "observation.state": state})
    after = first_checkpoint(_episodes(), before.config, 0, start)
    assert after.statistics[CAMERA] is before.statistics[CAMERA]
    assert not np.array_equal(after.statistics["observation.state"]["mean"], state["mean"])
