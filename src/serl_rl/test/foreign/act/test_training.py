# SPDX-License-Identifier: Apache-2.0
"""What ACT learns from: moments of recorded episodes, the loss, and its descent."""

import numpy as np
import pytest
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.demonstrations import batches, fitting_config, statistics_of
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.initial import initial_parameters
from serl_rl.foreign.act.parameters import is_trained

from .act_reference import Reference
from .checkpoints import random_checkpoint, small_config


def _episodes() -> list[PictureEpisode]:
    rng = np.random.default_rng(0)
    made = []
    for length in (5, 3):
        pictures = {"wrist": rng.integers(0, 200, (length + 1, 6, 4, 3), dtype=np.uint8)}
        state = np.c_[rng.normal(2, 3, (length + 1, 2)), np.full(length + 1, 0.1)].astype(np.float32)
        made.append(PictureEpisode(pictures, state, rng.normal(size=(length, 2)).astype(np.float32)))
    return made


def test_statistics_are_those_of_all_moments() -> None:
    episodes = _episodes()
    found = statistics_of(episodes)
    pictures = np.concatenate([each.pictures["wrist"] for each in episodes]) / 255.0
    each = found["observation.images.wrist"]
    for name, function in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
        assert each[name].shape == (3, 1, 1)
        np.testing.assert_allclose(each[name].ravel(), function(pictures, (0, 1, 2)), rtol=1e-6)
    states = np.concatenate([each.state[:-1] for each in episodes])
    np.testing.assert_allclose(found["observation.state"]["std"][:2], states.std(0)[:2], rtol=1e-5)
    assert found["observation.state"]["std"][2] == 1  # what never changes is not blown up


def test_each_moment_comes_once_with_what_followed() -> None:
    episodes = _episodes()
    config = fitting_config(episodes, chunk_size=4, n_action_steps=4, dim_model=16, use_vae=False)
    checkpoint = ActCheckpoint(config, {}, statistics_of(episodes))
    norms = dict(checkpoint.normalizations)
    seen = []
    for batch in batches(episodes, config, norms, 2, np.random.default_rng(1)):
        for picture, state, actions, padding in zip(
            batch.pictures[0], batch.state, batch.actions, batch.padding, strict=True
        ):
            state, actions = norms["observation.state"].restore(state), norms["action"].restore(actions)
            place = next(
                (i, at)
                for i, each in enumerate(episodes)
                for at in range(len(each.action))
                if np.allclose(each.state[at], state, atol=1e-5)
            )
            seen.append(place)
            episode = episodes[place[0]]
            followed = episode.action[place[1] : place[1] + 4]
            np.testing.assert_allclose(actions[: len(followed)], followed, atol=1e-5)
            np.testing.assert_allclose(
                actions[len(followed) :], np.tile(episode.action[-1], (4 - len(followed), 1)), atol=1e-5
            )
            assert padding.tolist() == [False] * len(followed) + [True] * (4 - len(followed))
            levels = norms["observation.images.wrist"].restore(np.moveaxis(picture, -1, 0))
            np.testing.assert_allclose(np.moveaxis(levels, 0, -1) * 255, episode.pictures["wrist"][place[1]], atol=1e-3)
    assert sorted(seen) == [(0, at) for at in range(5)] + [(1, at) for at in range(3)]


def test_pictures_are_moved_by_whole_pixels_and_repeat_their_edge() -> None:
    episodes = _episodes()
    config = fitting_config(episodes, chunk_size=4, n_action_steps=4, dim_model=16, use_vae=False)
    norms = dict(ActCheckpoint(config, {}, statistics_of(episodes)).normalizations)
    still = next(batches(episodes, config, norms, 8, np.random.default_rng(1))).pictures[0]
    moved = next(batches(episodes, config, norms, 8, np.random.default_rng(1), 2)).pictures[0]
    moves = [
        (down, right)
        for before, after in zip(still, moved, strict=True)
        for down in range(-2, 3)
        for right in range(-2, 3)
        if np.array_equal(after, before[np.clip(np.arange(6) + down, 0, 5)][:, np.clip(np.arange(4) + right, 0, 3)])
    ]
    assert len(moves) == 8
    assert len(set(moves)) > 1


def test_new_normalisations_keep_activations_at_their_size() -> None:
    from serl_rl.jax.act.backbone import calibrated, feature_map, fold

    config = small_config((("front", 64, 64),))
    first = initial_parameters(config, 0)
    pictures = np.random.default_rng(0).normal(3, 2, (16, 64, 64, 3)).astype(np.float32)
    made = calibrated(first, config, pictures)
    assert {name for name in made if made[name] is not first[name]} == {
        name for name in first if name.endswith((".running_mean", ".running_var"))
    }
    # Of the first convolution: what it gives for these pictures, by a product of matrices for one place.
    kernel = made["backbone.conv1.weight"]
    padded = np.pad(pictures, ((0, 0), (3, 3), (3, 3), (0, 0)))
    places = [padded[:, 2 * y : 2 * y + 7, 2 * x : 2 * x + 7] for y in range(32) for x in range(32)]
    given = np.einsum("pbhwi,oihw->pbo", np.stack(places), kernel, optimize=True)
    np.testing.assert_allclose(made["backbone.bn1.running_mean"], given.mean((0, 1)), atol=1e-3)
    np.testing.assert_allclose(made["backbone.bn1.running_var"], given.var((0, 1)), rtol=1e-3)
    sizes = {
        name: float(np.std(feature_map(fold(tensors, config), config, pictures)))
        for name, tensors in (("before", first), ("after", made))
    }
    assert sizes["before"] > 5 * sizes["after"]
    assert 0.5 < sizes["after"] < 2


def test_first_weights_are_spread_as_they_should_be() -> None:
    config = small_config((("front", 32, 32),), dim_model=128, dim_feedforward=256)
    made = initial_parameters(config, 0)
    glorot = made["encoder.layers.0.linear1.weight"]
    assert np.abs(glorot).max() == pytest.approx(np.sqrt(6 / (128 + 256)), rel=0.01)
    linear = made["vae_encoder.layers.0.linear1.weight"]
    assert np.abs(linear).max() == pytest.approx(1 / np.sqrt(128), rel=0.01)
    assert made["backbone.layer1.0.conv1.weight"].std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert made["decoder_pos_embed.weight"].std() == pytest.approx(1, rel=0.1)
    assert not made["decoder.layers.0.self_attn.in_proj_bias"].any()
    assert (made["encoder.layers.0.norm1.weight"] == 1).all()


def test_dropout_keeps_its_share_at_the_same_mean_and_draws_anew_each_time() -> None:
    import jax
    import jax.numpy as jnp
    from serl_rl.jax.act.transformer import make_drop

    drop = make_drop(0.25, jax.random.key(0))
    first, second = (np.asarray(drop(jnp.ones((200, 200)))) for _ in range(2))
    again = np.asarray(make_drop(0.25, jax.random.key(0))(jnp.ones((200, 200))))
    for each in (first, second):
        assert np.unique(each).tolist() == pytest.approx([0, 1 / 0.75])
        assert each.mean() == pytest.approx(1, abs=0.02)
        np.testing.assert_allclose((each == 0).mean(0), 0.25, atol=0.15)
    assert ((first == 0) & (second == 0)).mean() == pytest.approx(0.25**2, abs=0.01)
    np.testing.assert_array_equal(first, again)


def test_the_latent_and_the_loss_are_those_of_the_paper() -> None:
    import jax
    import jax.numpy as jnp
    from serl_rl.jax.act.network import Inputs, encode_actions
    from serl_rl.jax.act.training import ActBatch, act_loss

    config = small_config(dropout=0.0)
    checkpoint = random_checkpoint(config)
    rng = np.random.default_rng(2)
    state, env, actions, noise = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3), (2, 5), (2, 6, 2), (2, 4))
    )
    padding = np.arange(6) >= np.array([[6], [2]])
    encode = jax.jit(lambda *seen: encode_actions(checkpoint.parameters, config, *seen))
    latent = encode(*map(jnp.asarray, (state, actions, padding)))
    expected = [Reference(checkpoint).latent(*each) for each in zip(state, actions, padding, strict=True)]
    mean, log_variance = (np.stack(part) for part in zip(*expected, strict=True))
    np.testing.assert_allclose(latent.mean, mean, atol=1e-5)
    np.testing.assert_allclose(latent.log_variance, log_variance, atol=1e-5)

    trained = {name: jnp.asarray(v) for name, v in checkpoint.parameters.items() if is_trained(name)}
    frozen = {name: jnp.asarray(v) for name, v in checkpoint.parameters.items() if not is_trained(name)}
    batch = ActBatch(Inputs([], jnp.asarray(state), jnp.asarray(env)), jnp.asarray(actions), jnp.asarray(padding))
    compute = jax.jit(lambda batch: act_loss(trained, frozen, config, batch, jnp.asarray(noise)))
    loss, parts = compute(batch)
    divergence = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum() / 2
    np.testing.assert_allclose(parts["kld_loss"], divergence, rtol=1e-4)
    np.testing.assert_allclose(loss, parts["l1_loss"] + 10 * divergence, rtol=1e-4)
    elsewhere = actions.copy()
    elsewhere[1, 2:] += 5  # behind the end: nothing learns from it
    other = ActBatch(batch.inputs, jnp.asarray(elsewhere), batch.padding)
    np.testing.assert_allclose(compute(other)[0], loss, rtol=1e-5)


def test_what_is_learned_lowers_the_loss_and_leaves_the_rest() -> None:
    import jax.numpy as jnp
    from serl_rl.jax.act.network import Inputs
    from serl_rl.jax.act.training import ActBatch, ActTraining

    config = small_config(optimizer_lr=3e-3, kl_weight=0.1)
    first = initial_parameters(config, 0)
    training = ActTraining(config, first, 0)
    rng = np.random.default_rng(3)
    state, env = (jnp.asarray(rng.standard_normal((8, n)), jnp.float32) for n in (3, 5))
    actions = jnp.broadcast_to(jnp.tanh(state[:, None, :2]), (8, 6, 2))
    batch = ActBatch(Inputs([], state, env), actions, jnp.zeros((8, 6), bool))
    losses = [training.update(batch)["l1_loss"] for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    last = training.parameters()
    changed = {name for name, values in first.items() if not np.array_equal(values, last[name])}
    assert "vae_encoder_pos_enc" not in changed
    assert {"action_head.weight", "vae_encoder_cls_embed.weight", "decoder_pos_embed.weight"} <= changed
