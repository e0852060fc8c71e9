# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.backends import make_policy
from serl_rl.config import Gripper, HybridConfig, SACConfig, VisionConfig
from serl_rl.jax import hybrid, sac
from serl_rl.jax.hybrid import HybridAgent, changes, matching_grasps
from serl_rl.policy.grasps import grasp_table
from serl_rl.storage.chunk import DataError, TransitionSpec

pytestmark = pytest.mark.usefixtures("cheap_compilation")

# The arm has two components; the gripper is between them, and its command is the last number of the state.
SPEC = TransitionSpec({"arm": ((2,), "float32"), "state": ((3,), "float32")}, 3)
GRIPPER = Gripper(action=1, entry="state", index=2)
CONFIG = HybridConfig(grippers=(GRIPPER,), grasp_hidden_sizes=(8,), grasp_penalty=0.5)
SAC = SACConfig(hidden_sizes=(8,), discount=0.9)

CLOSE, STAY, OPEN = range(3)

grasp_loss = jax.jit(hybrid.grasp_loss)
critic_step, actor_step = jax.jit(hybrid.critic_step), jax.jit(hybrid.actor_step)


def make_agent(seed: int = 0, **changes: Any) -> HybridAgent:
    return HybridAgent.create(seed, SPEC, replace(CONFIG, **changes), SAC, VisionConfig())


def make_batch(seed: int = 0, shape: tuple[int, ...] = (), size: int = 16) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def observation() -> dict[str, np.ndarray]:
        state = rng.standard_normal((*shape, size, 3), dtype=np.float32)
        state[..., 2] = rng.choice([-1.0, 1.0], (*shape, size))
        return {"arm": rng.standard_normal((*shape, size, 2), dtype=np.float32), "state": state}

    action = rng.uniform(-1, 1, (*shape, size, 3)).astype(np.float32)
    action[..., 1] = rng.choice([-1.0, 1.0], (*shape, size))
    return {
        "observation": observation(),
        "next_observation": observation(),
        "action": action,
        "reward": rng.standard_normal((*shape, size), dtype=np.float32),
        "discount": np.full((*shape, size), 0.9, np.float32),
        "mask": np.ones((*shape, size), np.float32),
    }


def changed(before: HybridAgent, after: HybridAgent) -> set[str]:
    old, new = before.arrays(), after.arrays()
    names = {name for name in old if old[name].tobytes() != new[name].tobytes()}
    return {"/".join(name.split("/")[:2]) if name.startswith("sac/") else name.split("/")[0] for name in names}


def matching(executed: float, held: float) -> list[int]:
    found = matching_grasps(jnp.asarray([[executed]]), jnp.asarray([[held]]))[0]
    return [index for index in range(3) if found[index]]


@pytest.mark.parametrize(
    ("executed", "held", "expected"),
    [
        (-1.0, 1.0, [CLOSE]),
        (1.0, -1.0, [OPEN]),
        (-1.0, -1.0, [CLOSE, STAY]),  # the same to a closed gripper
        (1.0, 1.0, [STAY, OPEN]),
        (0.3, 0.3, [STAY]),  # half open, as random actions leave it
        (-0.97, 1.0, [CLOSE]),  # not quite what a grasp sends
        (0.4, 1.0, [STAY, OPEN]),
        (0.4, -1.0, [OPEN]),
        (-0.2, 0.1, [STAY]),
        (-0.97, -0.93, [CLOSE, STAY]),  # nearly closed already
    ],
)
def test_an_executed_command_teaches_every_grasp_that_would_have_sent_it(executed, held, expected):
    assert matching(executed, held) == expected


@settings(deadline=None)
@given(executed=st.floats(-1, 1, width=32), held=st.floats(-1, 1, width=32))
def test_every_command_teaches_some_grasp_and_costs_only_if_staying_is_none(executed, held):
    found = matching(executed, held)
    assert found
    cost = float(changes(jnp.asarray([[executed]]), jnp.asarray([[held]]))[0])
    assert cost in (0.0, 1.0)
    assert (cost == 1.0) == (STAY not in found)


def test_two_grippers_have_nine_grasps():
    table = grasp_table(2)
    assert table.shape == (9, 2)
    assert len({tuple(row) for row in table.tolist()}) == 9
    found = matching_grasps(jnp.asarray([[-1.0, 1.0]]), jnp.asarray([[1.0, 0.0]]))[0]
    assert [table[index].tolist() for index in range(9) if found[index]] == [[-1.0, 1.0]]
    assert float(changes(jnp.asarray([[-1.0, 1.0]]), jnp.asarray([[1.0, 0.0]]))[0]) == 2.0


def linear(bias: list[float]) -> dict[str, Any]:
    """Parameters of a grasp critic that gives these values to every observation."""
    grasp = jax.tree.map(jnp.zeros_like, make_agent().grasp)
    grasp["params"]["head"]["bias"] = jnp.asarray(bias, jnp.float32)
    return grasp


def test_the_online_critic_chooses_the_next_grasp_and_the_target_values_it():
    agent = make_agent().replace(grasp=linear([2.0, 1.0, 1.0]), target_grasp=linear([5.0, 9.0, 7.0]))
    batch = make_batch()
    batch["action"][:, 1] = batch["observation"]["state"][:, 2] = 1.0  # everybody opens, or stays, which is the same
    target = batch["reward"] + 0.9 * 5.0
    loss, _ = grasp_loss(agent, agent.grasp, batch)
    assert float(loss) == pytest.approx(float(np.mean(np.square(1.0 - target))), rel=1e-5)
    ended = batch | {"mask": np.zeros(16, np.float32)}
    loss, _ = grasp_loss(agent, agent.grasp, ended)
    assert float(loss) == pytest.approx(float(np.mean(np.square(1.0 - batch["reward"]))), rel=1e-5)


def test_a_change_costs_the_penalty_in_the_grasp_critic():
    agent = make_agent().replace(grasp=linear([0.0, 0.0, 0.0]), target_grasp=linear([0.0, 0.0, 0.0]))
    batch = make_batch()
    changing = batch["action"][:, 1] != batch["observation"]["state"][:, 2]
    assert 0 < changing.sum() < 16
    loss, _ = grasp_loss(agent, agent.grasp, batch)
    expected = np.mean(np.square(batch["reward"] - 0.5 * changing))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_penalty_is_in_the_grasp_critic_only():
    batch = make_batch()
    one, other = (critic_step(make_agent(grasp_penalty=penalty), batch)[0] for penalty in (0.0, 0.5))
    assert changed(one, other) == {"grasp", "grasp_optimizer", "target_grasp"}


def test_the_arm_learns_what_sac_learns_without_the_gripper():
    batch = make_batch()
    agent, _ = critic_step(make_agent(), batch)
    arm = make_agent().sac
    assert arm.spec.action_dim == 2
    alone, _ = jax.jit(sac.critic_step)(arm, batch | {"action": batch["action"][:, [0, 2]]})
    for name, array in alone.arrays().items():
        np.testing.assert_array_equal(agent.sac.arrays()[name], array, err_msg=name)


def test_each_step_leaves_the_others_alone():
    agent = make_agent()
    batch = make_batch()
    arm = {"sac/critic", "sac/critic_optimizer", "sac/target_critic", "sac/key", "sac/updates"}
    assert changed(agent, critic_step(agent, batch)[0]) == arm | {"grasp", "grasp_optimizer", "target_grasp"}
    actor = {"sac/actor", "sac/actor_optimizer", "sac/log_temperature", "sac/temperature_optimizer", "sac/key"}
    actor |= {"sac/acting_average"}
    assert changed(agent, actor_step(agent, batch)[0]) == actor


def test_no_gradient_flows_through_the_target():
    agent, batch = make_agent(), make_batch()

    def loss(target: Any, critic: Any) -> jax.Array:
        changed_agent = agent.replace(target_grasp=target, sac=agent.sac.replace(critic=critic))
        return hybrid.grasp_loss(changed_agent, agent.grasp, batch)[0]

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(agent.target_grasp, agent.sac.critic)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def observation(held: float) -> dict[str, np.ndarray]:
    return {"arm": np.zeros(2, np.float32), "state": np.asarray([0.1, 0.2, held], np.float32)}


@pytest.mark.parametrize(
    ("values", "held", "expected"),
    [([1, 0, 0], 1.0, -1.0), ([0, 0, 1], -1.0, 1.0), ([0, 1, 0], -1.0, -1.0), ([0, 1, 0], 0.3, 0.3)],
)
def test_the_best_grasp_is_taken_and_staying_keeps_the_command(values, held, expected):
    policy = make_policy(make_agent().replace(grasp=linear(values)).policy_snapshot())
    policy.check(SPEC)
    action = policy.act(observation(held), deterministic=True)
    assert action.shape == (3,)
    assert action[1] == pytest.approx(expected)


def test_epsilon_of_the_grasps_are_random_while_exploring():
    agent = make_agent(epsilon=0.6).replace(grasp=linear([1.0, 0.0, 0.0]))
    policy = make_policy(agent.policy_snapshot())
    rng = np.random.default_rng(0)
    seen = [float(policy.act(observation(0.5), deterministic=False, rng=rng)[1]) for _ in range(1000)]
    assert {value: seen.count(value) / 1000 for value in (0.5, 1.0)} == pytest.approx({0.5: 0.2, 1.0: 0.2}, abs=0.05)
    assert {float(policy.act(observation(0.5), deterministic=True)[1]) for _ in range(20)} == {-1.0}


def test_actors_compute_the_grasps_and_the_arm_of_the_learner():
    agent = make_agent(seed=5)
    policy = make_policy(agent.policy_snapshot())
    for seed in range(5):
        one = {name: rows[0] for name, rows in make_batch(seed, size=1)["observation"].items()}
        vector = jnp.concatenate([one["arm"], one["state"]])[None]
        mean, _ = sac.policy(agent.sac, agent.sac.actor, vector)
        choice = grasp_table(1)[int(jnp.argmax(hybrid.grasp_values(agent, agent.grasp, vector)[0]))][0]
        action = policy.act(one, deterministic=True)
        np.testing.assert_allclose(action[[0, 2]], np.tanh(mean[0]), rtol=1e-4, atol=1e-5)
        assert action[1] == (choice if choice != 0.0 else one["state"][2])


@pytest.mark.parametrize(
    ("gripper", "message"),
    [
        (Gripper(action=3, entry="state", index=2), "gripper action: expected a place among the 3"),
        (Gripper(action=-4, entry="state", index=2), "gripper action"),
        (Gripper(action=1, entry="camera", index=2), "gripper entry: expected arm or state, found 'camera'"),
        (Gripper(action=1, entry="state", index=3), r"gripper index: expected 0 to 2, in state, found 3"),
    ],
)
def test_a_gripper_that_is_not_there_is_refused(gripper, message):
    with pytest.raises(DataError, match=message):
        make_agent(grippers=(gripper,))


def test_grippers_may_not_share_a_component_nor_leave_no_arm():
    with pytest.raises(DataError, match="one that two share"):
        make_agent(grippers=(GRIPPER, replace(GRIPPER, action=-2)))
    spec = TransitionSpec({"state": ((3,), "float32")}, 1)
    with pytest.raises(DataError, match="a component that is no gripper"):
        HybridAgent.create(0, spec, HybridConfig(grippers=(replace(GRIPPER, action=0),)), SAC, VisionConfig())


def test_the_second_call_compiles_nothing_and_a_state_comes_back():
    batch = make_batch(shape=(2, 2))
    agent, _ = make_agent().update(batch)
    compiled = hybrid._update.compiled
    arrays = agent.arrays()
    first, info = agent.update(batch)
    again, _ = make_agent(seed=1).with_arrays(arrays).update(batch)
    assert hybrid._update.compiled == compiled
    assert changed(first, again) == set()
    assert {"critic_loss", "actor_loss", "grasp_loss", "grasp_changes"} <= set(info)
