# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic on pictures and features: what is trained by what, and what actors get."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.agent import Agent
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import EncoderConfig, LearningConfig, SACConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.frozen_encoder import FrozenEncoderAgent
from serl_rl.jax import sac
from serl_rl.jax.encoders.networks import encoder_params
from serl_rl.jax.sac import SACAgent
from serl_rl.jax.update import prepared
from serl_rl.jax.vision import encode_pictures
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import empty_batch, map_batch
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import tensors

pytestmark = pytest.mark.usefixtures("cheap_compilation")

ENCODER = Encoder.random("small", 0)
FEATURES, TRAINED, RECOMPUTED = "features", "trained", "recomputed"
KINDS = (FEATURES, TRAINED, RECOMPUTED)

critic_step, actor_step = map(jax.jit, (sac.critic_step, sac.actor_step))


def make_spec(kind: str, frame_stack: int = 1) -> TransitionSpec:
    camera = ((2, 3, 3, 4), "float16") if kind == FEATURES else ((32, 32, 3), "uint8")
    entries = {"front": camera, "state": ((3,), "float32"), "wrist": camera}
    return TransitionSpec(entries, 2, encoder="hash" if kind == FEATURES else "", frame_stack=frame_stack)


def make_agent(kind: str, seed: int = 0, frame_stack: int = 1, pooling: Any = "spatial_embeddings") -> Agent:
    encoder = EncoderConfig(frozen=kind != TRAINED, cached=kind == FEATURES)
    vision = VisionConfig(encoder=encoder, embeddings=2, width=6, frame_stack=frame_stack, pooling=pooling)
    config = LearningConfig(sac=SACConfig(hidden_sizes=(8,)), vision=vision)
    return create_agent(seed, make_spec(kind, frame_stack), config, None if kind == FEATURES else ENCODER)


def trained_part(agent: Agent) -> SACAgent:
    """All of an agent but a frozen encoder."""
    part = agent.agent if isinstance(agent, FrozenEncoderAgent) else agent
    assert isinstance(part, SACAgent)
    return part


def prepare(agent: Agent, batch: dict[str, Any]) -> tuple[SACAgent, dict[str, Any]]:
    """What the steps of SAC take: the agent with its next key, and the minibatch as they see it."""
    frozen = agent.params if isinstance(agent, FrozenEncoderAgent) else None
    part = trained_part(agent)
    key, minibatch = prepared(part.key, batch, vision=part.vision, frozen=frozen)
    return part.replace(key=key), minibatch


def make_batch(spec: TransitionSpec, seed: int = 0, shape: tuple[int, ...] = (4,)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = empty_batch(spec, shape)
    for side in ("observation", "next_observation"):
        for rows in batch[side].values():
            rows[...] = rng.integers(0, 256, rows.shape) if rows.dtype == np.uint8 else rng.standard_normal(rows.shape)
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    batch["reward"][...] = rng.standard_normal(shape)
    batch["mask"][...] = 1.0
    return batch


@cache
def trained(kind: str) -> tuple[dict[str, np.ndarray], float]:
    """State after two calls of the update, when every optimizer has momentum, and the last critic loss."""
    agent = make_agent(kind)
    for seed in range(2):
        agent, info = agent.update(make_batch(agent.spec, seed, (2, 2, 4)))
    return agent.arrays(), float(info["critic_loss"])


def trained_agent(kind: str) -> Agent:
    return make_agent(kind).with_arrays(trained(kind)[0])


def changed(before: Agent, after: Agent) -> set[str]:
    old, new = before.arrays(), after.arrays()
    assert old.keys() == new.keys()
    return {name for name in old if old[name].tobytes() != new[name].tobytes()}


def fields(names: set[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_a_critic_step_trains_the_eyes_and_leaves_the_actor_alone_to_the_bit(kind):
    before = trained_agent(kind)
    agent, batch = prepare(before, make_batch(before.spec))
    after, _ = critic_step(agent, batch)
    names = changed(before, after)
    assert fields(names) == {"critic", "critic_optimizer", "target_critic", "key", "updates"}
    parts = {"/".join(name.split("/")[:4]) for name in names if name.startswith(("critic/vision", "target_critic/vi"))}
    heads = {
        f"{side}/vision/params/heads_{name}" for side in ("critic", "target_critic") for name in ("front", "wrist")
    }
    encoders = {f"{side}/vision/params/encoder" for side in ("critic", "target_critic")} if kind == TRAINED else set()
    assert parts == heads | encoders


@pytest.mark.parametrize("kind", [FEATURES, TRAINED])
def test_an_actor_step_leaves_critics_and_eyes_alone_to_the_bit(kind):
    before = trained_agent(kind)
    after, _ = actor_step(before, make_batch(before.spec))
    assert fields(changed(before, after)) == {
        "actor", "actor_optimizer", "acting_average", "log_temperature", "temperature_optimizer", "key"
    }  # fmt: skip


def test_no_gradient_of_the_actor_reaches_the_eyes():
    agent = trained_agent(TRAINED)

    def loss(vision: Any) -> jax.Array:
        seeing = agent.replace(critic=agent.critic | {"vision": vision})
        return sac.actor_loss(seeing, agent.actor, make_batch(agent.spec), jax.random.key(0))[0]

    gradients = jax.jit(jax.grad(loss))(agent.critic["vision"])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_a_frozen_encoder_is_in_no_state_and_stays_as_it_is():
    agent = make_agent(RECOMPUTED)
    arrays, _ = trained(RECOMPUTED)
    assert not [name for name in arrays if "encoder" in name]
    assert sum(array.nbytes for array in arrays.values()) < 200_000
    agent, _ = agent.update(make_batch(agent.spec, shape=(1, 1, 4)))
    assert isinstance(agent, FrozenEncoderAgent)
    assert jax.tree.all(jax.tree.map(np.array_equal, agent.params, encoder_params(ENCODER)))


def test_a_trained_encoder_begins_with_the_weights_that_it_is_given():
    arrays = make_agent(TRAINED).arrays()
    for side in ("critic", "target_critic"):
        for name, weights in ENCODER.weights.items():
            np.testing.assert_array_equal(arrays[f"{side}/vision/params/encoder/{name}"], weights)


def test_recomputed_features_are_those_of_the_shifted_pictures():
    agent = make_agent(RECOMPUTED)
    batch = make_batch(agent.spec)
    for name in ("front", "wrist"):  # then every shift gives the same picture
        batch["observation"][name][...] = 100
        batch["next_observation"][name][...] = 200
    _, seen = prepare(agent, batch)
    for side, grey in (("observation", 100), ("next_observation", 200)):
        picture = np.full((1, 32, 32, 3), grey, np.uint8)
        expected = jax.jit(encode_pictures, static_argnums=1)(encoder_params(ENCODER), "small", {"front": picture})[
            "front"
        ]
        np.testing.assert_allclose(seen[side]["front"], np.repeat(expected, 4, axis=0), rtol=1e-4, atol=1e-5)


def test_observation_and_next_observation_are_shifted_differently():
    agent = make_agent(TRAINED)
    batch = make_batch(agent.spec, shape=(32,))
    batch["next_observation"] = batch["observation"]
    _, minibatch = prepare(agent, batch)
    seen = [minibatch[side][name] for side in ("observation", "next_observation") for name in ("front", "wrist")]
    for first, second in ((0, 2), (1, 3)):
        differ = [not np.array_equal(a, b) for a, b in zip(seen[first], seen[second], strict=True)]
        assert np.mean(differ) > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_is_the_same_steps_as_one_by_one(kind):
    agent = make_agent(kind)
    batch = make_batch(agent.spec, shape=(2, 2, 4))
    whole, _ = make_agent(kind).update(batch)
    steps = trained_part(agent)
    for step in range(2):
        for update in range(2):
            minibatch = map_batch(lambda rows, at=(step, update): rows[at], batch)
            if kind != FEATURES:
                before = replace(agent, agent=steps) if kind == RECOMPUTED else steps
                steps, minibatch = prepare(before, minibatch)
            steps, _ = critic_step(steps, minibatch)
        steps, _ = actor_step(steps, minibatch)
    assert int(whole.updates) == 4
    for name, array in steps.arrays().items():
        np.testing.assert_allclose(whole.arrays()[name], array, rtol=2e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_agent_goes_on_as_if_nothing_had_been(kind):
    agent = trained_agent(kind)
    again = make_agent(kind, seed=7).with_arrays(agent.arrays())
    batch = make_batch(agent.spec, 5, (2, 2, 4))
    (first, _), (second, _) = agent.update(batch), again.update(batch)
    assert changed(first, second) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_updates_compile_once(kind):
    trained(kind)
    compiled = sac._update.compiled
    agent = trained_agent(kind)
    for seed in range(2):
        agent, _ = agent.update(make_batch(agent.spec, seed, (2, 2, 4)))
    assert sac._update.compiled == compiled
    assert {leaf.dtype for leaf in jax.tree.leaves(trained_part(agent).critic)} == {np.dtype("float32")}


# Policies


@pytest.mark.parametrize(
    ("kind", "frame_stack", "pooling"),
    [
        (FEATURES, 1, "spatial_embeddings"),
        (FEATURES, 2, "spatial_softmax"),
        (FEATURES, 1, "average"),
        (TRAINED, 2, "spatial_embeddings"),
        (RECOMPUTED, 1, "spatial_embeddings"),
    ],
)
def test_actors_compute_the_policy_of_the_learner(kind, frame_stack, pooling):
    agent = make_agent(kind, 3, frame_stack, pooling)
    snapshot = PolicySnapshot.from_bytes(agent.policy_snapshot().to_bytes())
    policy = make_policy(snapshot, ENCODER if kind == RECOMPUTED else None)
    policy.check(agent.spec)
    batch = make_batch(agent.spec)["observation"]
    seen = encode_pictures(encoder_params(ENCODER), "small", batch) if kind == RECOMPUTED else batch
    mean, _ = jax.jit(acting_policy)(trained_part(agent), seen)
    for row in range(2):
        one = {name: rows[row] for name, rows in batch.items()}
        np.testing.assert_allclose(policy.act(one, deterministic=True), np.tanh(mean[row]), rtol=1e-3, atol=1e-5)


def acting_policy(agent, observation):
    average = agent.acting_average
    return sac.policy(agent, average["actor"], sac.encoded(agent, average, observation))


def test_of_several_views_actors_look_at_the_first():
    agent = make_agent(FEATURES)
    policy = make_policy(agent.policy_snapshot())
    drawn = {name: rows[0] for name, rows in make_batch(agent.spec)["observation"].items()}
    stored = drawn | {name: np.stack([drawn[name], drawn[name] + 1]) for name in ("front", "wrist")}
    expected = policy.act(drawn, deterministic=True)
    assert np.array_equal(policy.act(stored, deterministic=True), expected)
    assert not np.array_equal(policy.act(drawn | {"front": drawn["front"] + 1}, deterministic=True), expected)


def test_a_policy_for_other_frames_is_noticed():
    policy = make_policy(make_agent(FEATURES).policy_snapshot())
    policy.check(make_spec(FEATURES))
    entries = dict(make_spec(FEATURES).observation)
    with pytest.raises(DataError, match="encoder: expected features of the encoder other, found 'hash'"):
        policy.check(TransitionSpec(entries, 2, encoder="other"))
    with pytest.raises(DataError, match="observation"):
        policy.check(make_spec(TRAINED))
    with pytest.raises(DataError, match="observation"):
        policy.check(make_spec(FEATURES, frame_stack=2))
    policy.check(TransitionSpec(entries | {"wrist": ((5, 3, 3, 4), "float16")}, 2, encoder="hash"))


def test_a_policy_on_pictures_needs_the_encoder_that_it_was_trained_with():
    snapshot = make_agent(RECOMPUTED).policy_snapshot()
    with pytest.raises(DataError, match="found none"):
        make_policy(snapshot)
    with pytest.raises(DataError, match=ENCODER.hash):
        make_policy(snapshot, Encoder.random("small", 1))
    assert not [name for name in snapshot.arrays if "encoder" in name]


@cache
def snapshot_of(kind: str) -> PolicySnapshot:
    return make_agent(kind).policy_snapshot()


@pytest.mark.parametrize(
    ("kind", "name", "array", "message"),
    [
        (FEATURES, "vision/heads_front/pooling/kernel", np.zeros((3, 3, 5, 2), np.float32), "pooling/kernel"),
        (FEATURES, "vision/heads_front/dense/kernel", np.zeros((9, 6), np.float32), "dense/kernel"),
        (FEATURES, "vision/heads_wrist/norm/scale", None, "norm/scale"),
        (FEATURES, "vision/heads_wrist/norm/bias", np.full(6, np.inf, np.float32), "finite"),
        (FEATURES, "vision/heads_side/norm/bias", np.zeros(6, np.float32), "only"),
        (TRAINED, "vision/encoder/conv_0/kernel", None, "conv_0/kernel"),
        (TRAINED, "vision/encoder/conv_0/bias", np.zeros(3, np.float32), "conv_0/bias"),
        (TRAINED, "vision/encoder/conv_9/bias", np.zeros(3, np.float32), "conv_9/bias"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(kind, name, array, message):
    snapshot = snapshot_of(kind)
    arrays = {key: value for key, value in snapshot.arrays.items() if key != name}
    if array is not None:
        arrays[name] = array
    damaged = PolicySnapshot(arrays, snapshot.observation, snapshot.activation, snapshot.actor, snapshot.frames)
    with pytest.raises(DataError, match=message):
        make_policy(damaged)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (FEATURES, '"pooling": "spatial_embeddings"', '"pooling": "spatial_softmax"'),
        (FEATURES, '"pooling": "spatial_embeddings"', '"pooling": "none"'),
        (FEATURES, "[3, 3, 4]", "[3, 3, 40]"),
        (FEATURES, "[3, 3, 4]", "[3, 3]"),
        (FEATURES, "[3, 3, 4]", "[0, 3, 4]"),
        (FEATURES, "[3, 3, 4]", "[1000000, 1000000, 1000000]"),
        (FEATURES, '"pictures": false', '"pictures": true'),
        (TRAINED, '"pictures": true', '"pictures": false'),
        (TRAINED, '"encoder_kind": "small"', '"encoder_kind": "resnet10"'),
        (TRAINED, '"encoder_kind": "small"', '"encoder_kind": "eval"'),
        (TRAINED, "[32, 32, 3]", "[64, 64, 3]"),
        (TRAINED, "[32, 32, 3]", "[32, 32, 6]"),
        (TRAINED, '"frame_stack": 1', '"frame_stack": 0'),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(kind, old, new):
    arrays, metadata = tensors.unpack(snapshot_of(kind).to_bytes())
    assert old in metadata["policy"]
    with pytest.raises(DataError):
        make_policy(PolicySnapshot.from_bytes(tensors.pack(arrays, {"policy": metadata["policy"].replace(old, new)})))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_changed_bytes_give_a_policy_or_a_data_error(data):
    encoded = bytearray(snapshot_of(FEATURES).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        policy = make_policy(PolicySnapshot.from_bytes(bytes(encoded)))
        policy.check(make_spec(FEATURES))
    except DataError:
        return
    drawn = {name: rows[0] for name, rows in make_batch(make_spec(FEATURES))["observation"].items()}
    with np.errstate(all="ignore"):
        assert not np.abs(policy.act(drawn, deterministic=True)).max() > 1
