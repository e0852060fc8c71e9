# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serl_rl.jax.networks import MLP, GaussianPolicy, critic_ensemble

pytestmark = pytest.mark.usefixtures("cheap_compilation")


def test_what_is_left_behind_dropout_makes_up_for_what_is_not():
    network = MLP((4000,), "relu", layer_norm=False, dropout=0.3)
    x = jnp.ones((1, 3))
    params = network.init(jax.random.key(0), x)
    whole = np.asarray(network.apply(params, x))
    thinned = np.asarray(network.apply(params, x, rngs={"dropout": jax.random.key(1)}))
    active = whole > 0.0
    left = thinned[active] != 0.0
    assert left.mean() == pytest.approx(0.7, abs=0.04)
    np.testing.assert_allclose(thinned[active][left], whole[active][left] / 0.7, rtol=1e-5)


def test_critics_begin_as_different_ones():
    ensemble = critic_ensemble(4, (8,), "relu", layer_norm=True)
    observation, action = jnp.ones((1, 3)), jnp.ones((1, 2))
    params = ensemble.init(jax.random.key(0), observation, action)
    assert len(set(np.asarray(ensemble.apply(params, observation, action))[:, 0].tolist())) == 4


def test_the_deviation_is_bounded():
    network = GaussianPolicy((8,), "relu", layer_norm=True, action_dim=2)
    x = jnp.ones((1, 3))
    params = network.init(jax.random.key(0), x)
    params["params"]["head"]["bias"] = jnp.asarray([0.0, 0.0, 50.0, -50.0])
    _, log_std = network.apply(params, x)
    np.testing.assert_allclose(log_std, [[2.0, -10.0]])
