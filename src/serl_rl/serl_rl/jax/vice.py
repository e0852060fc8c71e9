# SPDX-License-Identifier: Apache-2.0
"""SAC that gets its reward from a classifier of successes, trained while it learns (Fu et al., arXiv 1805.11686).

What the classifier sees of a picture or feature map is regularised as in SERL: mixup, label smoothing and a gradient
penalty, all three on the vectors behind its own heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from serl_rl.config import ActingConfig, SACConfig, VICEConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax import sac
from serl_rl.jax.agent_state import NamedState
from serl_rl.jax.networks import MLP
from serl_rl.jax.sac import SACAgent
from serl_rl.jax.update import Batch, Info, Params, Update, trained_encoder
from serl_rl.jax.vision import encode_observation, init_vision
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import encoded_width

_LOG_ODDS_BOUND = 10.0


class SuccessHead(nn.Module):
    """Log odds (B,) of success for vectors (B, D).

    Without layer normalization, behind which no slope is 1 everywhere: the gradient penalty would win over the labels.
    """

    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Log odds (B,) for vectors (B, D)."""
        x = MLP(self.hidden_sizes, "relu", False, name="trunk")(observation)
        return nn.Dense(1, name="head")(x).squeeze(-1)


class VICEAgent(NamedState, struct.PyTreeNode):
    """Soft actor-critic and the classifier that rewards it; they share nothing."""

    key: jax.Array
    """Random key ()."""
    sac: SACAgent
    classifier: Params
    """"params" of the `SuccessHead` and "vision" of its own."""
    classifier_optimizer: optax.OptState
    env_steps: jax.Array
    """Environment steps that were trained for, int32 ()."""
    config: VICEConfig = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: VICEConfig,
        sac_config: SACConfig,
        vision: VisionConfig,
        encoder: Encoder | None = None,
        acting: ActingConfig | None = None,
    ) -> VICEAgent:
        """New networks for the observations of `spec`; arguments and errors as of `create_agent`."""
        policy = SACAgent.create(seed, spec, sac_config, vision, encoder, acting)
        return _create(jax.random.key(seed), policy, config, trained_encoder(spec, vision, encoder))

    @property
    def spec(self) -> TransitionSpec:
        """The specification of the transitions that it learns from."""
        return self.sac.spec

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""
        return self.sac.vision

    @property
    def updates(self) -> jax.Array:
        """Updates done so far, int32 ()."""
        return self.sac.updates

    @property
    def steps(self) -> Update[VICEAgent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[VICEAgent, Info]:
        """Update as SAC does, with rewards of its own, and update the classifier.

        Args:
            batch: `goal` has observations (G, ...) of successes; the last G rows of the others are own experience.
        """
        return _update(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs."""
        return self.sac.policy_snapshot()


def smoothed_labels(positives: int, negatives: int, smoothing: float) -> jax.Array:
    """Labels (positives + negatives,) of successes and then of other observations, moved towards 1/2."""
    labels = jnp.concatenate([jnp.ones(positives), jnp.zeros(negatives)])
    return labels * (1.0 - smoothing) + 0.5 * smoothing


def mixup(key: jax.Array, vectors: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each vector (B, D) and label (B,) blended with that of another row in a random share of its own.

    Cross-entropy is linear in the label, so the blended label gives the blend of both losses.
    """
    share_key, order_key = jax.random.split(key)
    share = jax.random.uniform(share_key, labels.shape)
    other = jax.random.permutation(order_key, labels.shape[0])
    blended = share[:, None] * vectors + (1.0 - share[:, None]) * vectors[other]
    return blended, share * labels + (1.0 - share) * labels[other]


def gradient_penalty(
    key: jax.Array, log_odds: Callable[[jax.Array], jax.Array], first: jax.Array, second: jax.Array
) -> jax.Array:
    """Mean of (|gradient of log_odds| - 1)^2 at random places between rows of two sets (B, D)."""
    share = jax.random.uniform(key, (first.shape[0], 1))
    between = share * first + (1.0 - share) * second
    slopes = jax.grad(lambda at: jnp.sum(log_odds(at)))(between)
    # The root of zero has no gradient.
    lengths = jnp.sqrt(jnp.sum(jnp.square(slopes), axis=-1) + 1e-12)
    return jnp.mean(jnp.square(lengths - 1.0))


def reward_of(log_odds: jax.Array, config: VICEConfig) -> jax.Array:
    """Rewards (B,) of observations with these log odds of success (B,)."""
    if config.reward == "binary":
        return (log_odds >= 0.0).astype(jnp.float32)
    return jnp.clip(log_odds, -_LOG_ODDS_BOUND, _LOG_ODDS_BOUND)


def encoded(agent: VICEAgent, classifier: Params, observation: Mapping[str, jax.Array]) -> jax.Array:
    """Vectors (B, D) that the vision of the classifier makes of observations."""
    return encode_observation(agent.spec, agent.vision, classifier["vision"], observation)


def log_odds(agent: VICEAgent, classifier: Params, vectors: jax.Array) -> jax.Array:
    """Log odds of success (B,) for encoded observations."""
    return cast(jax.Array, SuccessHead(agent.config.hidden_sizes).apply({"params": classifier["params"]}, vectors))


def classifier_loss(agent: VICEAgent, classifier: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Cross-entropy of blended successes and own experience, plus the gradient penalty between them.

    `goal` of the batch has leaves (G, ...); the last G rows of its next observations (B, ...) are own experience.
    """
    config = agent.config
    mixup_key, penalty_key = jax.random.split(key)
    count = batch["goal"][next(iter(batch["goal"]))].shape[0]
    experience = jax.tree.map(lambda rows: rows[-count:], batch["next_observation"])
    rows = jax.tree.map(lambda *both: jnp.concatenate(both), batch["goal"], experience)
    vectors = encoded(agent, classifier, rows)
    labels = smoothed_labels(count, count, config.label_smoothing)
    mixed, mixed_labels = mixup(mixup_key, vectors, labels) if config.mixup else (vectors, labels)
    entropy = jnp.mean(optax.sigmoid_binary_cross_entropy(log_odds(agent, classifier, mixed), mixed_labels))
    penalty = gradient_penalty(penalty_key, partial(log_odds, agent, classifier), vectors[:count], vectors[count:])
    correct = (log_odds(agent, classifier, vectors) >= 0.0) == (labels >= 0.5)
    info = {"classifier_loss": entropy, "gradient_penalty": penalty, "classifier_accuracy": jnp.mean(correct)}
    return entropy + config.gradient_penalty * penalty, info


def rewards(agent: VICEAgent, batch: Batch) -> jax.Array:
    """Rewards (B,) of what a minibatch led to; of chunks of actions, the discounted sum over the observations."""
    if "visited" not in batch:
        vectors = encoded(agent, agent.classifier, batch["next_observation"])
        return reward_of(log_odds(agent, agent.classifier, vectors), agent.config)
    valid = batch["valid"]
    visited = jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), batch["visited"])
    each = reward_of(log_odds(agent, agent.classifier, encoded(agent, agent.classifier, visited)), agent.config)
    worth = agent.sac.config.discount ** jnp.arange(valid.shape[1])
    return jnp.sum(worth * valid * each.reshape(valid.shape), axis=-1)


def critic_step(agent: VICEAgent, batch: Batch) -> tuple[VICEAgent, Info]:
    """One update of the critics on one minibatch, whose reward is what the classifier says of the next observations."""
    reward = jax.lax.stop_gradient(rewards(agent, batch))
    policy, info = sac.critic_step(agent.sac, batch | {"reward": reward})
    return agent.replace(sac=policy), info | {"reward": jnp.mean(reward)}


def actor_step(agent: VICEAgent, batch: Batch) -> tuple[VICEAgent, Info]:
    """One update of actor and temperature on one minibatch and, in its interval, one of the classifier."""
    policy, info = sac.actor_step(agent.sac, batch)
    agent = agent.replace(sac=policy, env_steps=agent.env_steps + 1)
    key, step_key = jax.random.split(agent.key)
    gradients, classifier_info = jax.grad(classifier_loss, argnums=1, has_aux=True)(
        agent, agent.classifier, batch, step_key
    )
    steps, optimizer = optax.adam(agent.config.learning_rate).update(gradients, agent.classifier_optimizer)
    trained = (optax.apply_updates(agent.classifier, steps), optimizer)
    due = agent.env_steps % agent.config.interval == 0
    untrained = (agent.classifier, agent.classifier_optimizer)
    classifier, optimizer = jax.tree.map(partial(jnp.where, due), trained, untrained)
    agent = agent.replace(key=key, classifier=classifier, classifier_optimizer=optimizer)
    return agent, info | classifier_info


_update = Update(critic_step, actor_step)


@partial(jax.jit, static_argnums=2)
def _create(key: jax.Array, policy: SACAgent, config: VICEConfig, trained_encoder: Params) -> VICEAgent:
    key, head_key, vision_key = jax.random.split(key, 3)
    spec, vision = policy.spec, policy.vision
    observation = jnp.zeros((1, encoded_width(spec, vision)), jnp.float32)
    eyes = {"vision": init_vision(vision_key, spec, vision, trained_encoder)}
    classifier = {**SuccessHead(config.hidden_sizes).init(head_key, observation), **eyes}
    return VICEAgent(
        key=key,
        sac=policy,
        classifier=classifier,
        classifier_optimizer=optax.adam(config.learning_rate).init(classifier),
        env_steps=jnp.asarray(0, jnp.int32),
        config=config,
    )
