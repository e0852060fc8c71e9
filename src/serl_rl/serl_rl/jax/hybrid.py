# SPDX-License-Identifier: Apache-2.0
"""SAC for the arm and double DQN for the grippers (Luo et al., HIL-SERL, arXiv 2410.21845).

A grasp is one of close, stay and open for each gripper; with two grippers there are nine. `stay` repeats the command
that holds, which the observation knows: so nothing has to be remembered from step to step, and a person who has led in
between is understood.

What was executed is a width and not a grasp. It teaches every grasp that would have sent it: with a closed gripper,
`close` and `stay` are the same. A width that no grasp sends, as in random actions, counts as the nearest.

Over a chunk of actions a grasp is constant: one that was executed teaches the grasps that would have sent all of its
widths, and none where the gripper changes its mind in between.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from serl_rl.config import ActingConfig, HybridConfig, SACConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax import sac
from serl_rl.jax.agent_state import NamedState
from serl_rl.jax.networks import LOG_STD_MAX, LOG_STD_MIN, MLP
from serl_rl.jax.sac import SACAgent, acting_snapshot
from serl_rl.jax.update import Batch, Info, Params, Update
from serl_rl.policy.acting import ArmAndGrasp
from serl_rl.policy.grasps import SAME, GripperPlace, arm_components, grasp_table, locate_grippers
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import encoded_width


class GraspCritic(nn.Module):
    """Values (B, M) of all grasps for a vector (B, D)."""

    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    grasps: int

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Values (B, M) for vectors (B, D)."""
        x = MLP(self.hidden_sizes, self.activation, self.layer_norm, name="trunk")(observation)
        return nn.Dense(self.grasps, name="head")(x)


class HybridAgent(NamedState, struct.PyTreeNode):
    """Soft actor-critic for the arm, and a grasp critic that looks through the eyes which the critics of SAC train."""

    key: jax.Array
    """Random key ()."""
    sac: SACAgent
    """The agent of the action components that are no grippers."""
    grasp: Params
    grasp_optimizer: optax.OptState
    target_grasp: Params
    spec: TransitionSpec = struct.field(pytree_node=False)
    config: HybridConfig = struct.field(pytree_node=False)
    grippers: tuple[GripperPlace, ...] = struct.field(pytree_node=False)
    """Those of the configuration, where the specification has them."""

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: HybridConfig,
        sac_config: SACConfig,
        vision: VisionConfig,
        encoder: Encoder | None = None,
        acting: ActingConfig | None = None,
    ) -> HybridAgent:
        """New networks for the observations of `spec`; arguments as of `create_agent`.

        Raises:
            DataError: as `create_agent`, or a gripper is not in the action or its command not in the observation.
        """
        grippers = locate_grippers(spec, config.grippers)
        arm_spec = replace(spec, action_dim=spec.action_dim - len(config.grippers))
        arm = SACAgent.create(seed, arm_spec, sac_config, vision, encoder, acting)
        return _create(jax.random.key(seed), arm, spec, config, grippers)

    @property
    def updates(self) -> jax.Array:
        """Updates done so far, int32 ()."""
        return self.sac.updates

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""
        return self.sac.vision

    @property
    def steps(self) -> Update[HybridAgent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[HybridAgent, Info]:
        """Updates of all critics on all minibatches, one of actor and temperature per environment step."""
        return _update(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs."""
        acting = self.sac.acting
        return acting_snapshot(
            self.sac,
            ArmAndGrasp((LOG_STD_MIN, LOG_STD_MAX), self.grippers, self.config.epsilon, acting.chunk, acting.execute),
            grasp=self.grasp,
        )


def commands(batch: Batch, grippers: tuple[GripperPlace, ...]) -> tuple[jax.Array, jax.Array]:
    """What was executed, (B, G) or of chunks (B, H, G), and what held before, (B, G)."""
    executed = jnp.stack([batch["action"][..., gripper.action] for gripper in grippers], axis=-1)
    held = jnp.stack([batch["observation"][gripper.entry][:, gripper.index] for gripper in grippers], axis=-1)
    return executed, held


def matching_grasps(executed: jax.Array, held: jax.Array) -> jax.Array:
    """Which grasps (B, M) would have sent the executed commands (B, G) while `held` (B, G) held, as 0 or 1."""
    table = jnp.asarray(grasp_table(executed.shape[-1]))
    distances = jnp.abs(jnp.where(table == 0.0, held[:, None, :], table) - executed[:, None, :])
    nearest = distances.min(axis=1, keepdims=True)
    return jnp.all(distances <= nearest + SAME, axis=-1).astype(jnp.float32)


def taught_grasps(batch: Batch, grippers: tuple[GripperPlace, ...]) -> tuple[jax.Array, jax.Array]:
    """Which grasps (B, M) would have sent all that was executed, as 0 or 1, and how many grippers (B,) that changed."""
    executed, held = commands(batch, grippers)
    if executed.ndim == 2:
        return matching_grasps(executed, held), changes(executed, held)
    matching = jax.vmap(matching_grasps, in_axes=(1, None), out_axes=1)(executed, held)
    matching = jnp.where(batch["valid"][..., None] > 0.0, matching, 1.0)
    return jnp.prod(matching, axis=1), changes(executed[:, 0], held)


def changes(executed: jax.Array, held: jax.Array) -> jax.Array:
    """Number of grippers (B,) whose executed command is nearer to closing or opening than to staying."""
    extreme = jnp.minimum(jnp.abs(executed - 1.0), jnp.abs(executed + 1.0))
    return jnp.sum(jnp.abs(executed - held) > extreme + SAME, axis=-1).astype(jnp.float32)


def grasp_values(agent: HybridAgent, grasp: Params, observation: jax.Array) -> jax.Array:
    """Values (B, M) of all grasps for encoded observations."""
    return cast(jax.Array, _grasp_network(agent.config, agent.sac.config).apply(grasp, observation))


def grasp_loss(agent: HybridAgent, grasp: Params, batch: Batch) -> tuple[jax.Array, Info]:
    """Mean squared error of the grasps that were executed against the target of double DQN (arXiv 1509.06461).

    The grasp critic chooses the next grasp, its target values it. The penalty is in this target only. Leaves of
    the batch are (B, ...).
    """
    arm = agent.sac
    seen, target_seen = (sac.encoded(arm, eyes, batch["next_observation"]) for eyes in (arm.critic, arm.target_critic))
    best = jnp.argmax(grasp_values(agent, agent.grasp, seen), axis=-1)
    next_values = grasp_values(agent, agent.target_grasp, target_seen)
    next_value = jnp.take_along_axis(next_values, best[:, None], axis=-1).squeeze(-1)
    matching, changed = taught_grasps(batch, agent.grippers)
    reward = batch["reward"] - agent.config.grasp_penalty * changed
    discount = batch.get("discount", arm.config.discount)
    target = jax.lax.stop_gradient(reward + discount * batch["mask"] * next_value)
    values = grasp_values(agent, grasp, jax.lax.stop_gradient(sac.encoded(arm, arm.critic, batch["observation"])))
    taught = jnp.maximum(jnp.sum(matching, axis=-1), 1.0)
    errors = jnp.sum(matching * jnp.square(values - target[:, None]), axis=-1) / taught
    loss = jnp.mean(errors)
    return loss, {"grasp_loss": loss, "grasp_changes": jnp.mean(changed)}


def critic_step(agent: HybridAgent, batch: Batch) -> tuple[HybridAgent, Info]:
    """One update of all critics and their targets on one minibatch. Touches neither actor nor temperature."""
    gradients, info = jax.grad(grasp_loss, argnums=1, has_aux=True)(agent, agent.grasp, batch)
    steps, optimizer = optax.adam(agent.config.grasp_lr).update(gradients, agent.grasp_optimizer)
    grasp = optax.apply_updates(agent.grasp, steps)
    target = optax.incremental_update(grasp, agent.target_grasp, agent.sac.config.target_rate)
    arm, arm_info = sac.critic_step(agent.sac, _of_arm(agent, batch))
    return agent.replace(sac=arm, grasp=grasp, grasp_optimizer=optimizer, target_grasp=target), info | arm_info


def actor_step(agent: HybridAgent, batch: Batch) -> tuple[HybridAgent, Info]:
    """One update of actor and temperature on one minibatch. Touches no critic."""
    arm, info = sac.actor_step(agent.sac, _of_arm(agent, batch))
    return agent.replace(sac=arm), info


_update = Update(critic_step, actor_step)


def _of_arm(agent: HybridAgent, batch: Batch) -> Batch:
    components = np.array(arm_components(agent.spec.action_dim, agent.grippers))
    return batch | {"action": batch["action"][..., components]}


def _grasp_network(config: HybridConfig, sac_config: SACConfig) -> nn.Module:
    grasps = len(grasp_table(len(config.grippers)))
    return GraspCritic(config.grasp_hidden_sizes, sac_config.activation, sac_config.layer_norm, grasps)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _create(
    key: jax.Array, arm: SACAgent, spec: TransitionSpec, config: HybridConfig, grippers: tuple[GripperPlace, ...]
) -> HybridAgent:
    key, grasp_key = jax.random.split(key)
    grasp = _grasp_network(config, arm.config).init(grasp_key, jnp.zeros((1, encoded_width(spec, arm.vision))))
    return HybridAgent(
        key=key,
        sac=arm,
        grasp=grasp,
        grasp_optimizer=optax.adam(config.grasp_lr).init(grasp),
        target_grasp=jax.tree.map(jnp.copy, grasp),
        spec=spec,
        config=config,
        grippers=grippers,
    )
