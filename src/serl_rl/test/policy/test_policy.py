# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.backends import make_policy
from serl_rl.policy.acting import ActionChunk, ArmAndGrasp, SquashedGaussian
from serl_rl.policy.grasps import GripperPlace
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.storage import tensors
from serl_rl.storage.chunk import DataError


def make_snapshot(seed: int = 0) -> PolicySnapshot:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    arrays = {
        "trunk/dense_0/kernel": normal(5, 8),
        "trunk/dense_0/bias": normal(8),
        "trunk/norm_0/scale": normal(8),
        "trunk/norm_0/bias": normal(8),
        "head/kernel": normal(8, 4),
        "head/bias": normal(4),
    }
    return PolicySnapshot(arrays, {"state": 5}, "tanh", SquashedGaussian((-10.0, 2.0)))


def outputs(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log standard deviation (2,) of the policy of `make_snapshot` for OBSERVATION."""
    hidden = OBSERVATION["state"] @ arrays["trunk/dense_0/kernel"] + arrays["trunk/dense_0/bias"]
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-6)
    hidden = np.tanh(hidden * arrays["trunk/norm_0/scale"] + arrays["trunk/norm_0/bias"])
    mean, log_std = np.split(hidden @ arrays["head/kernel"] + arrays["head/bias"], 2)
    return mean, np.clip(log_std, -10.0, 2.0)


SNAPSHOT = make_snapshot()
OBSERVATION = {"state": np.linspace(-1, 1, 5, dtype=np.float32)}


def test_a_policy_survives_its_bytes():
    again = PolicySnapshot.from_bytes(SNAPSHOT.to_bytes())
    first, second = (make_policy(snapshot).act(OBSERVATION, deterministic=True) for snapshot in (SNAPSHOT, again))
    assert np.array_equal(first, second)
    assert first.shape == (2,)
    assert first.dtype == np.float32


def test_sampled_actions_follow_the_distribution():
    policy, rng = make_policy(SNAPSHOT), np.random.default_rng(0)
    mean, log_std = outputs(SNAPSHOT.arrays)
    actions = np.array([policy.act(OBSERVATION, deterministic=False, rng=rng) for _ in range(4000)])
    # tanh is monotonic: half of the actions lie below the squashed mean, and 84 % below one standard deviation more.
    for bound, share in ((mean, 0.5), (mean + np.exp(log_std), 0.8413)):
        assert (actions <= np.tanh(bound)).mean(axis=0) == pytest.approx(share, abs=0.04)
    with pytest.raises(ValueError, match="rng"):
        policy.act(OBSERVATION, deterministic=False)


def test_arrays_below_exploring_take_the_place_of_others_where_actions_explore():
    other = {f"exploring/{name}": array for name, array in make_snapshot(1).arrays.items() if "head" in name}
    policy = make_policy(PolicySnapshot.from_bytes(replace(SNAPSHOT, arrays={**SNAPSHOT.arrays, **other}).to_bytes()))
    np.testing.assert_allclose(
        policy.act(OBSERVATION, deterministic=True), np.tanh(outputs(SNAPSHOT.arrays)[0]), rtol=1e-5
    )
    mixed = {**SNAPSHOT.arrays, **{name.removeprefix("exploring/"): array for name, array in other.items()}}
    mean, log_std = outputs(mixed)
    noise = np.random.default_rng(5).standard_normal(2, dtype=np.float32)
    found = policy.act(OBSERVATION, deterministic=False, rng=np.random.default_rng(5))
    np.testing.assert_allclose(found, np.tanh(mean + np.exp(log_std) * noise), rtol=1e-4)


@pytest.mark.parametrize("name", ["exploring/trunk/dense_7/kernel", "exploring/head/kernel", "exploring/head"])
def test_exploring_arrays_that_take_nobodys_place_are_refused(name):
    arrays = {**SNAPSHOT.arrays, name: np.zeros((8, 8), np.float32)}
    with pytest.raises(DataError):
        make_policy(replace(SNAPSHOT, arrays=arrays))


def test_actions_that_explore_are_of_the_size_of_the_best_ones():
    other = {"exploring/head/kernel": np.zeros((8, 6), np.float32), "exploring/head/bias": np.zeros(6, np.float32)}
    with pytest.raises(DataError, match=r"exploring: expected actions of 2 values.*found 3"):
        make_policy(replace(SNAPSHOT, arrays={**SNAPSHOT.arrays, **other}))


def test_acting_leaves_the_observation_as_it_was():
    before = OBSERVATION["state"].copy()
    make_policy(SNAPSHOT).act(OBSERVATION, deterministic=True)
    assert np.array_equal(before, OBSERVATION["state"])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("head/kernel", None, "head/kernel: expected an array"),
        ("head/bias", np.zeros(3, np.float32), "head/bias: expected float32"),
        ("head/kernel", np.zeros((8, 3), np.float32), "head/bias"),
        ("head/kernel", np.full((8, 4), np.nan, np.float32), "finite"),
        ("trunk/dense_0/kernel", np.zeros((6, 8), np.float32), "trunk/dense_0/kernel"),
        ("trunk/dense_0/bias", np.zeros(8, np.float64), "float64"),
        ("trunk/norm_0/scale", np.zeros((8, 1), np.float32), "trunk/norm_0/scale"),
        ("trunk/dense_2/kernel", np.zeros((8, 8), np.float32), "only"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(name, array, message):
    arrays = {key: value for key, value in SNAPSHOT.arrays.items() if key != name}
    if array is not None:
        arrays[name] = array
    with pytest.raises(DataError, match=message):
        make_policy(replace(SNAPSHOT, arrays=arrays))


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "gelu"},
        {"observation": {}},
        {"actor": SquashedGaussian((3.0, 1.0))},
        {"actor": ActionChunk(3, 2)},
        {"actor": ActionChunk(2, 4)},
        {"actor": ArmAndGrasp((-1.0, 1.0), (GripperPlace(-1, "state", 7),), 0.0)},
        {"observation": {"state": 4}},
    ],
)
def test_descriptions_that_do_not_fit_are_refused(change):
    with pytest.raises(DataError):
        make_policy(replace(SNAPSHOT, **change))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"policy": "no json"},
        {"policy": "[]"},
        {"policy": '{"format": "serl-policy-1"}'},
        {"policy": '{"format": "serl-policy-2", "observation": [["state", 1e999]], "actor": {"kind": "noisy_mean"}}'},
    ],
)
def test_foreign_descriptions_are_refused(metadata):
    with pytest.raises(DataError):
        PolicySnapshot.from_bytes(tensors.pack(SNAPSHOT.arrays, metadata))


@given(st.data())
@settings(max_examples=200)
def test_changed_bytes_give_a_policy_or_a_data_error(data):
    encoded = bytearray(SNAPSHOT.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        policy = make_policy(PolicySnapshot.from_bytes(bytes(encoded)))
    except DataError:
        return
    assert np.abs(policy.act({name: np.zeros(5, np.float32) for name in policy._widths}, deterministic=True)).max() <= 1


def test_a_policy_for_another_task_is_noticed(state_spec, image_spec):
    make_policy(SNAPSHOT).check(state_spec)
    with pytest.raises(DataError, match="observation"):
        make_policy(SNAPSHOT).check(image_spec)
    with pytest.raises(DataError, match="action_dim"):
        make_policy(SNAPSHOT).check(replace(state_spec, action_dim=3))


def test_actors_do_not_load_jax():
    code = (
        "import sys; import serl_rl.policy.snapshot, serl_rl.storage.chunk, serl_rl.config; "
        "import serl_rl.success_rate, serl_rl.checkpoint; "
        "sys.exit(any(name.split('.')[0] in ('jax', 'flax', 'optax') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
