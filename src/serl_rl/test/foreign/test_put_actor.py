# SPDX-License-Identifier: Apache-2.0
"""Our policies as parameters of SERL's agent: what reads those back acts the same, and other networks are refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serl_rl.foreign.serl.agent import put_actor, take_actor
from serl_rl.imported.published import published_policy
from serl_rl.policy.acting import NoisyMean, SquashedGaussian
from serl_rl.policy.network import PolicyArrays
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec

STATE, ACTIONS, HIDDEN = 5, 3, (16, 12)
SPEC = TransitionSpec({"state": ((STATE,), "float32")}, ACTIONS)


@pytest.fixture
def policy() -> PolicySnapshot:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    before = STATE
    for layer, width in enumerate(HIDDEN):
        arrays[f"trunk/dense_{layer}/kernel"] = rng.normal(0, 0.5, (before, width))
        arrays[f"trunk/dense_{layer}/bias"] = rng.normal(0, 0.5, width)
        arrays[f"trunk/norm_{layer}/scale"] = rng.normal(1, 0.3, width)
        arrays[f"trunk/norm_{layer}/bias"] = rng.normal(0, 0.3, width)
        before = width
    arrays |= {"head/kernel": rng.normal(0, 0.5, (before, 2 * ACTIONS)), "head/bias": rng.normal(0, 0.5, 2 * ACTIONS)}
    arrays |= {f"exploring/{name}": values + 1.0 for name, values in arrays.items()}
    arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
    return PolicySnapshot(arrays, {"state": STATE}, "tanh", SquashedGaussian((-10.0, 2.0)))


def by_serls_network(p: dict[str, Any], x: Any) -> Any:
    """Dense, layer normalization and tanh, then the mean's layer, as SERL's policy computes it."""
    p = {name: values.astype(np.float64) for name, values in p.items()}
    for layer in range(len(HIDDEN)):
        below = "modules_actor/network/"
        y = x @ p[f"{below}Dense_{layer}/kernel"] + p[f"{below}Dense_{layer}/bias"]
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-6)
        x = np.tanh(y * p[f"{below}LayerNorm_{layer}/scale"] + p[f"{below}LayerNorm_{layer}/bias"])
    return np.tanh(x @ p["modules_actor/Dense_0/kernel"] + p["modules_actor/Dense_0/bias"])


def test_the_same_actions_come_of_the_parameters_by_our_reader_and_by_serls_network(policy: PolicySnapshot) -> None:
    parameters = put_actor(policy)
    ours, theirs = NumpyPolicy(policy), published_policy(parameters, SPEC)
    rng = np.random.default_rng(1)
    for _ in range(20):
        state = rng.normal(size=STATE).astype(np.float32)
        expected = ours.act({"state": state}, deterministic=True)
        np.testing.assert_allclose(theirs.act({"state": state}, deterministic=True), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(by_serls_network(parameters, state.astype(np.float64)), expected, rtol=0, atol=1e-5)


def test_it_is_the_inverse_of_what_reads_a_checkpoint(policy: PolicySnapshot) -> None:
    arrays, hidden, state = take_actor(PolicyArrays(put_actor(policy)))
    assert (tuple(hidden), state) == (HIDDEN, STATE)
    best = {name: values for name, values in policy.arrays.items() if not name.startswith("exploring/")}
    assert arrays.keys() == best.keys()
    for name, values in best.items():
        np.testing.assert_array_equal(arrays[name], values)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"activation": "relu"}, "activation"),
        ({"actor": NoisyMean(0.1)}, "actor"),
        ({"actor": SquashedGaussian((-10.0, 2.0), chunk=2)}, "actor"),
        ({"observation": {"a": 2, "b": 3}}, "observation"),
    ],
)
def test_networks_that_serl_does_not_have_are_refused(policy: PolicySnapshot, changed: Any, field: str) -> None:
    with pytest.raises(DataError) as caught:
        put_actor(replace(policy, **changed))
    assert caught.value.field == field


def test_no_normalization_and_other_networks_are_refused(policy: PolicySnapshot) -> None:
    plain = {name: values for name, values in policy.arrays.items() if "norm_1" not in name}
    with pytest.raises(DataError, match="layer normalization"):
        put_actor(replace(policy, arrays=plain))
    with pytest.raises(DataError, match="critics/0/head/bias as well"):
        put_actor(replace(policy, arrays=policy.arrays | {"critics/0/head/bias": np.zeros(1, np.float32)}))
