# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic (Haarnoja et al., arXiv 1812.05905) with the critics of RLPD (Ball et al., arXiv 2302.02948)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from numpy.typing import NDArray
from serl_rl.config import SACConfig

from . import tape
from .networks import Params, State, adam, below, mlp, q_values
from .reference import Batch, Info, Keys, chunk_length, components, descend, follow, normal, parameters, valued
from .sight import Sight
from .tape import Value


class SACReference:
    """One step after the other; `state` has the names of the agent's arrays."""

    def __init__(self, state: State, key: NDArray, config: SACConfig, sight: Sight) -> None:
        self.state, self.keys, self.config, self.sight = state, Keys(key), config, sight

    def prepare(self, batch: Batch) -> Batch:
        return self.sight.prepare(self.keys, batch)

    def critic_step(self, batch: Batch) -> Info:
        """Soft policy evaluation: every critic nears r + gamma mask (min of a subset of Q' - alpha log pi)."""
        noise_key, subset_key = jax.random.split(self.keys.step())
        config, state = self.config, parameters(self.state, "actor", "critic", "target_critic")
        noise = normal(noise_key, components(batch))
        seen = self.seen(state, "critic", batch["next_observation"])
        sample, log_prob = self.sample(state, seen, noise)
        action = self.executed(batch["next_observation"], sample)
        subset = np.arange(config.critics)
        if config.critic_subset:
            subset = np.asarray(jax.random.permutation(subset_key, config.critics))[: config.critic_subset]
        proposals = [action]
        if config.improve == "proposals":
            proposals.append(Value(batch["next_observation"]["base_action"]))
        following = self.seen(state, "target_critic", batch["next_observation"])
        values_next = [self.q(state, "target_critic", following, each).array[subset].min(axis=0) for each in proposals]
        soft_value = np.stack(values_next).max(axis=0)
        if config.backup_entropy:
            soft_value = soft_value - np.exp(self.state["log_temperature"]) * log_prob.array
        target = batch["reward"] + batch.get("discount", config.discount) * batch["mask"] * soft_value
        valued_actions = Value(valued(batch, action.array))
        values: list[NDArray] = []

        def loss(params: dict[str, Value]) -> Value:
            q = self.q(params, "critic", self.seen(params, "critic", batch["observation"]), valued_actions)
            values.append(q.array)
            return ((q - target) ** 2.0).mean()

        found = descend(self.state, "critic", loss, config.critic_lr)
        follow(self.state, "target_critic", "critic", config.target_rate)
        self.state["updates"] = self.state["updates"] + 1
        info = {"critic_loss": found, "q": float(values[0].mean())}
        if len(values_next) > 1:
            info["base_share"] = float((values_next[1] >= values_next[0]).mean())
        return info

    def actor_step(self, batch: Batch) -> Info:
        """Soft policy improvement by alpha log pi - mean Q, and alpha by the distance from the target entropy."""
        config = self.config
        noise = normal(self.keys.step(), components(batch))
        critic = parameters(self.state, "critic")
        seen = tape.constant(self.seen(critic, "critic", batch["observation"]))
        temperature = np.exp(self.state["log_temperature"])
        entropies: list[float] = []

        def loss(params: dict[str, Value]) -> Value:
            sample, log_prob = self.sample(params, seen, noise)
            action = self.executed(batch["observation"], sample)
            entropies.append(-float(log_prob.array.mean()))
            return (temperature * log_prob - self.q(critic, "critic", seen, action).mean(0)).mean()

        found = descend(self.state, "actor", loss, config.actor_lr)
        follow(self.state, "acting_average/actor", "actor", config.acting_rate)
        follow(self.state, "acting_average/vision", "critic/vision", config.acting_rate)
        target = -0.5 * batch["action"].shape[-1] if config.target_entropy is None else config.target_entropy
        target *= chunk_length(batch)
        # The loss alpha (H - H_target) as a function of log alpha.
        slope = temperature * (entropies[0] - target)
        adam(self.state, "log_temperature", "temperature_optimizer", {"": np.asarray(slope)}, config.temperature_lr)
        new = float(np.exp(self.state["log_temperature"]))
        return {"actor_loss": found, "entropy": entropies[0], "temperature": new}

    def executed(self, observation: Mapping[str, NDArray], sample: Value) -> Value:
        """What is done: the sample, or the base action with the sample, scaled, added and kept within the bounds."""
        if self.config.improve != "residual":
            return sample
        return (sample * self.config.residual_scale + observation["base_action"]).clip(-1.0, 1.0)

    def seen(self, params: Params, critic: str, observation: Mapping[str, NDArray]) -> Value:
        return self.sight.look(below(params, f"{critic}/vision/params"), observation)

    def q(self, params: Params, critic: str, seen: Value, action: Value) -> Value:
        network = below(params, f"{critic}/params")
        return q_values(network, seen, action, self.config.activation, self.config.layer_norm)

    def sample(self, params: Params, seen: Value, noise: NDArray) -> tuple[Value, Value]:
        """Action tanh(u) of u = mean + deviation noise, and its log density by the change of variables.

        The slope of tanh is 1 / cosh^2.
        """
        outputs = mlp(below(params, "actor/params"), seen, self.config.activation, self.config.layer_norm)
        size = noise.shape[-1]
        mean, log_std = outputs[:, :size], outputs[:, size:].clip(-10.0, 2.0)
        u = mean + tape.exp(log_std) * noise
        gaussian = -0.5 * noise**2 - log_std - 0.5 * np.log(2.0 * np.pi)
        return tape.tanh(u), (gaussian + 2.0 * tape.log_cosh(u)).sum(1)
