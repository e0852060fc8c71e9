# SPDX-License-Identifier: Apache-2.0
"""SAC that gets its reward from a classifier of successes, trained while it learns (Fu et al., arXiv 1805.11686).

What the classifier sees is regularised by mixup, label smoothing and a gradient penalty. See `serl_rl.jax.vice`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from serl_rl.config import ActingConfig, SACConfig, TorchConfig, VICEConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import map_batch
from serl_rl.spec import TransitionSpec
from serl_rl.torch import sac
from serl_rl.torch.agent_state import NamedState
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adam, gradients, init_adam
from serl_rl.torch.computing.tree import map_tree, static
from serl_rl.torch.networks import MLP, Params
from serl_rl.torch.sac import SACAgent
from serl_rl.torch.update import Batch, Info, Update, trained_encoder
from serl_rl.torch.vision import encode_observation, init_vision
from serl_rl.vision_inputs import encoded_width

_LOG_ODDS_BOUND = 10.0


@dataclass(frozen=True)
class VICEAgent(NamedState):
    """Soft actor-critic and the classifier that rewards it; they share nothing."""

    key: torch.Tensor
    """Random key (2,)."""
    sac: SACAgent
    classifier: Params
    """"params" of the network of log odds and "vision" of its own."""
    classifier_optimizer: Params
    env_steps: torch.Tensor
    """Environment steps that were trained for, int32 ()."""
    config: VICEConfig = static()

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
        computing: TorchConfig | None = None,
    ) -> VICEAgent:
        """New networks for the observations of `spec`; arguments and errors as of `create_agent`."""
        policy = SACAgent.create(seed, spec, sac_config, vision, encoder, acting, computing)
        trained = trained_encoder(spec, vision, encoder, policy.computing)
        key, head_key, vision_key = random.split(random.from_seed(seed, device_of(policy.computing)), 3)
        classifier = {
            "params": _network(config).init(head_key, encoded_width(spec, vision)),
            "vision": init_vision(vision_key, spec, vision, trained),
        }
        env_steps = torch.zeros((), dtype=torch.int32, device=key.device)
        return cls(key, policy, classifier, init_adam(classifier), env_steps, config)

    @property
    def spec(self) -> TransitionSpec:
        """The specification of the transitions that it learns from."""
        return self.sac.spec

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""
        return self.sac.vision

    @property
    def computing(self) -> TorchConfig:
        """How its steps are computed."""
        return self.sac.computing

    @property
    def updates(self) -> torch.Tensor:
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


def smoothed_labels(positives: int, negatives: int, smoothing: float, device: torch.device) -> torch.Tensor:
    """Labels (positives + negatives,) of successes and then of other observations, moved towards 1/2."""
    labels = torch.cat([torch.ones(positives, device=device), torch.zeros(negatives, device=device)])
    return labels * (1.0 - smoothing) + 0.5 * smoothing


def mixup(key: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each vector (B, D) and label (B,) blended with that of another row in a random share of its own.

    Cross-entropy is linear in the label, so the blended label gives the blend of both losses.
    """
    share_key, order_key = random.split(key)
    share = random.uniform(share_key, tuple(labels.shape))
    other = random.permutation(order_key, labels.shape[0])
    blended = share[:, None] * vectors + (1.0 - share[:, None]) * vectors[other]
    return blended, share * labels + (1.0 - share) * labels[other]


def gradient_penalty(
    key: torch.Tensor, log_odds: Callable[[torch.Tensor], torch.Tensor], first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """Mean of (|gradient of log_odds| - 1)^2 at random places between rows of two sets (B, D)."""
    share = random.uniform(key, (first.shape[0], 1))
    between = share * first + (1.0 - share) * second
    if not between.requires_grad:
        between.requires_grad_()
    (slopes,) = torch.autograd.grad(log_odds(between).sum(), between, create_graph=True)
    # The root of zero has no gradient.
    lengths = torch.sqrt(slopes.square().sum(dim=-1) + 1e-12)
    return (lengths - 1.0).square().mean()


def reward_of(log_odds: torch.Tensor, config: VICEConfig) -> torch.Tensor:
    """Rewards (B,) of observations with these log odds of success (B,)."""
    if config.reward == "binary":
        return (log_odds >= 0.0).to(torch.float32)
    return log_odds.clamp(-_LOG_ODDS_BOUND, _LOG_ODDS_BOUND)


def encoded(agent: VICEAgent, classifier: Params, observation: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Vectors (B, D) that the vision of the classifier makes of observations."""
    return encode_observation(agent.spec, agent.vision, classifier["vision"], observation)


def log_odds(agent: VICEAgent, classifier: Params, vectors: torch.Tensor) -> torch.Tensor:
    """Log odds of success (B,) for encoded observations."""
    return _network(agent.config)(classifier["params"], vectors).squeeze(-1)


def classifier_loss(agent: VICEAgent, classifier: Params, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, Info]:
    """Cross-entropy of blended successes and own experience, plus the gradient penalty between them.

    `goal` of the batch has leaves (G, ...); the last G rows of its next observations (B, ...) are own experience.
    """
    config = agent.config
    mixup_key, penalty_key = random.split(key)
    count = next(iter(batch["goal"].values())).shape[0]
    rows = {name: torch.cat([goal, batch["next_observation"][name][-count:]]) for name, goal in batch["goal"].items()}
    vectors = encoded(agent, classifier, rows)
    labels = smoothed_labels(count, count, config.label_smoothing, vectors.device)
    mixed, mixed_labels = mixup(mixup_key, vectors, labels) if config.mixup else (vectors, labels)
    entropy = binary_cross_entropy_with_logits(log_odds(agent, classifier, mixed), mixed_labels)
    penalty = gradient_penalty(penalty_key, partial(log_odds, agent, classifier), vectors[:count], vectors[count:])
    correct = (log_odds(agent, classifier, vectors) >= 0.0) == (labels >= 0.5)
    accuracy = correct.to(torch.float32).mean()
    info = {"classifier_loss": entropy, "gradient_penalty": penalty, "classifier_accuracy": accuracy}
    return entropy + config.gradient_penalty * penalty, info


def rewards(agent: VICEAgent, batch: Batch) -> torch.Tensor:
    """Rewards (B,) of what a minibatch led to; of chunks of actions, the discounted sum over the observations."""
    if "visited" not in batch:
        vectors = encoded(agent, agent.classifier, batch["next_observation"])
        return reward_of(log_odds(agent, agent.classifier, vectors), agent.config)
    valid = batch["valid"]
    visited = map_batch(lambda rows: rows.reshape(-1, *rows.shape[2:]), batch["visited"])
    each = reward_of(log_odds(agent, agent.classifier, encoded(agent, agent.classifier, visited)), agent.config)
    worth = agent.sac.config.discount ** torch.arange(valid.shape[1], device=valid.device)
    return (worth * valid * each.reshape(valid.shape)).sum(dim=-1)


def critic_step(agent: VICEAgent, batch: Batch) -> tuple[VICEAgent, Info]:
    """One update of the critics on one minibatch, whose reward is what the classifier says of the next observations."""
    with torch.no_grad():
        reward = rewards(agent, batch)
    policy, info = sac.critic_step(agent.sac, batch | {"reward": reward})
    return agent.replace(sac=policy), info | {"reward": reward.mean()}


def actor_step(agent: VICEAgent, batch: Batch) -> tuple[VICEAgent, Info]:
    """One update of actor and temperature on one minibatch and, in its interval, one of the classifier."""
    policy, info = sac.actor_step(agent.sac, batch)
    agent = agent.replace(sac=policy, env_steps=agent.env_steps + 1)
    key, step_key = random.split(agent.key)
    slopes, classifier_info = gradients(
        lambda classifier: classifier_loss(agent, classifier, batch, step_key), agent.classifier
    )
    classifier, optimizer = (map_tree(torch.clone, tree) for tree in (agent.classifier, agent.classifier_optimizer))
    trained = adam(classifier, slopes, optimizer, agent.config.learning_rate)
    due = agent.env_steps % agent.config.interval == 0
    classifier, optimizer = (
        map_tree(partial(torch.where, due), new, old)
        for new, old in zip(trained, (agent.classifier, agent.classifier_optimizer), strict=True)
    )
    agent = agent.replace(key=key, classifier=classifier, classifier_optimizer=optimizer)
    return agent, info | classifier_info


_update = Update(critic_step, actor_step)


def _network(config: VICEConfig) -> MLP:
    """Without layer normalization, behind which no slope is 1 everywhere."""
    return MLP(config.hidden_sizes, "relu", False, 1)
