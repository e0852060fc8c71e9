# SPDX-License-Identifier: Apache-2.0
"""What an ACT policy does, against a second implementation. `serl_lerobot` compares it with LeRobot's own."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.backends import make_act_policy
from serl_rl.foreign.act.acting import ActPolicy, ChunkQueue, TemporalEnsemble
from serl_rl.spec import DataError

from .act_reference import Reference
from .checkpoints import random_checkpoint, small_config

CAMERAS = (("wrist", 64, 32), ("front", 32, 64))


def observe(policy: ActPolicy, seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 256, shape, dtype=np.uint8) if len(shape) == 3 else rng.normal(size=shape).astype("f4")
        for name, shape in policy.inputs.items()
    }


def test_it_acts_as_a_second_implementation_does() -> None:
    checkpoint = random_checkpoint(small_config(CAMERAS, n_decoder_layers=2, n_action_steps=2))
    policy = make_act_policy(checkpoint)
    first, second = observe(policy, 0), observe(policy, 1)
    statistics = checkpoint.statistics

    def normalised(name: str, values: NDArray[Any]) -> NDArray[Any]:
        mean, std = (statistics[name][kind].astype(np.float64).reshape(-1) for kind in ("mean", "std"))
        return (values - mean) / (std + 1e-8)

    pictures = [normalised(name, first[name] / 255.0) for name in checkpoint.config.cameras]
    chunk = Reference(checkpoint).chunk(pictures, normalised("observation.state", first["observation.state"]))
    expected = chunk * statistics["action"]["std"] + statistics["action"]["mean"]
    assert np.ptp(expected, 0).min() > 0.01  # the actions of the chunk differ
    assert policy.planned == 0
    np.testing.assert_allclose(policy.act(first), expected[0], atol=2e-5)
    assert policy.planned == 1
    np.testing.assert_allclose(policy.act(second), expected[1], atol=2e-5)  # as planned, whatever is seen
    third = policy.act(second)
    policy.reset()
    np.testing.assert_array_equal(policy.act(second), third)
    assert np.abs(third - expected[0]).max() > 1e-3


def test_cameras_are_told_apart_by_their_order() -> None:
    """The same pictures under exchanged names are something else."""
    policy = make_act_policy(random_checkpoint(small_config((("a", 32, 32), ("b", 32, 32)))))
    seen = observe(policy, 0)
    a, b = "observation.images.a", "observation.images.b"
    first = policy.act(seen)
    policy.reset()
    assert np.abs(policy.act({**seen, a: seen[b], b: seen[a]}) - first).max() > 1e-4


def test_a_policy_says_what_it_misses() -> None:
    policy = make_act_policy(random_checkpoint(small_config()))
    seen = observe(policy, 0)
    with pytest.raises(DataError, match=r"observation\.environment_state: expected values of shape \(5,\), found none"):
        policy.act({"observation.state": seen["observation.state"]})
    with pytest.raises(DataError, match=r"observation\.state: expected float32 \(3,\), found float64 \(3,\)"):
        policy.act({**seen, "observation.state": np.zeros(3)})


def test_a_chunk_is_executed_up_to_its_steps() -> None:
    chunks = iter(np.arange(24, dtype=np.float32).reshape(3, 8, 1))
    queue = ChunkQueue(3)
    made = [float(queue.next(lambda: next(chunks))[0]) for _ in range(5)]
    assert made == [0, 1, 2, 8, 9]
    assert queue.planned == 1
    queue.reset()
    assert float(queue.next(lambda: next(chunks))[0]) == 16


def test_an_ensemble_is_the_weighted_mean_of_what_was_made_for_the_moment() -> None:
    rng = np.random.default_rng(0)
    chunks = rng.normal(size=(9, 4, 2)).astype(np.float32)
    ensemble = TemporalEnsemble(0.3, 4)
    for moment in range(9):
        made = [(chunks[at][moment - at]) for at in range(max(0, moment - 3), moment + 1)]  # the oldest first
        weights = np.exp(-0.3 * np.arange(len(made)))
        expected = sum(w * action for w, action in zip(weights, made, strict=True)) / weights.sum()
        np.testing.assert_allclose(ensemble.next(lambda at=moment: chunks[at]), expected, rtol=1e-6)
    ensemble.reset()
    np.testing.assert_allclose(ensemble.next(lambda: chunks[0]), chunks[0][0], rtol=1e-6)
