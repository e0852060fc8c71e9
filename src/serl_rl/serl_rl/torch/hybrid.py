# SPDX-License-Identifier: Apache-2.0
"""SAC for the arm and double DQN for the grippers (Luo et al., HIL-SERL, arXiv 2410.21845). See `serl_rl.jax.hybrid`.

What was executed teaches every grasp that would have sent it; over a chunk of actions a grasp is constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from serl_rl.config import ActingConfig, HybridConfig, SACConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.acting import ArmAndGrasp
from serl_rl.policy.grasps import SAME, GripperPlace, arm_components, grasp_table, locate_grippers
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.torch import sac
from serl_rl.torch.agent_state import NamedState
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import constant, device_of
from serl_rl.torch.computing.optimizer import adam, follow, gradients, init_adam
from serl_rl.torch.computing.tree import map_tree, static
from serl_rl.torch.networks import LOG_STD_MAX, LOG_STD_MIN, MLP, Params
from serl_rl.torch.sac import SACAgent, acting_snapshot
from serl_rl.torch.update import Batch, Info, Update
from serl_rl.vision_inputs import encoded_width


@dataclass(frozen=True)
class HybridAgent(NamedState):
    """Soft actor-critic for the arm, and a grasp critic that looks through the eyes which the critics of SAC train."""

    key: torch.Tensor
    """Random key (2,)."""
    sac: SACAgent
    """The agent of the action components that are no grippers."""
    grasp: Params
    grasp_optimizer: Params
    target_grasp: Params
    spec: TransitionSpec = static()
    config: HybridConfig = static()
    grippers: tuple[GripperPlace, ...] = static()
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
        computing: TorchConfig | None = None,
    ) -> HybridAgent:
        """New networks for the observations of `spec`; arguments as of `create_agent`.

        Raises:
            DataError: as `create_agent`, or a gripper is not in the action or its command not in the observation.
        """
        grippers = locate_grippers(spec, config.grippers)
        arm_spec = replace(spec, action_dim=spec.action_dim - len(config.grippers))
        arm = SACAgent.create(seed, arm_spec, sac_config, vision, encoder, acting, computing)
        key, grasp_key = random.split(random.from_seed(seed, device_of(arm.computing)))
        grasp = {"params": _grasp_network(config, sac_config).init(grasp_key, encoded_width(spec, vision))}
        return cls(key, arm, grasp, init_adam(grasp), map_tree(torch.clone, grasp), spec, config, grippers)

    @property
    def updates(self) -> torch.Tensor:
        """Updates done so far, int32 ()."""
        return self.sac.updates

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""
        return self.sac.vision

    @property
    def computing(self) -> TorchConfig:
        """How its steps are computed."""
        return self.sac.computing

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


def commands(batch: Batch, grippers: tuple[GripperPlace, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """What was executed, (B, G) or of chunks (B, H, G), and what held before, (B, G)."""
    executed = torch.stack([batch["action"][..., gripper.action] for gripper in grippers], dim=-1)
    held = torch.stack([batch["observation"][gripper.entry][:, gripper.index] for gripper in grippers], dim=-1)
    return executed, held


def matching_grasps(executed: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Which grasps (..., M) would have sent the executed commands (..., G) while `held` (..., G) held, as 0 or 1."""
    grasps = grasp_table(executed.shape[-1])
    table = constant(grasps.ravel().tolist(), executed.device).reshape(grasps.shape)
    sent = torch.where(table == 0.0, held[..., None, :], table)
    distances = (sent - executed[..., None, :]).abs()
    nearest = distances.amin(dim=-2, keepdim=True)
    return (distances <= nearest + SAME).all(dim=-1).to(torch.float32)


def taught_grasps(batch: Batch, grippers: tuple[GripperPlace, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which grasps (B, M) would have sent all that was executed, as 0 or 1, and how many grippers (B,) that changed."""
    executed, held = commands(batch, grippers)
    if executed.ndim == 2:
        return matching_grasps(executed, held), changes(executed, held)
    matching = matching_grasps(executed, held[:, None, :].expand(executed.shape))
    matching = torch.where(batch["valid"][..., None] > 0.0, matching, 1.0)
    return matching.prod(dim=1), changes(executed[:, 0], held)


def changes(executed: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Number of grippers (B,) whose executed command is nearer to closing or opening than to staying."""
    extreme = torch.minimum((executed - 1.0).abs(), (executed + 1.0).abs())
    return ((executed - held).abs() > extreme + SAME).sum(dim=-1).to(torch.float32)


def grasp_values(agent: HybridAgent, grasp: Params, observation: torch.Tensor) -> torch.Tensor:
    """Values (B, M) of all grasps for encoded observations."""
    return _grasp_network(agent.config, agent.sac.config)(grasp["params"], observation)


def grasp_loss(agent: HybridAgent, grasp: Params, batch: Batch) -> tuple[torch.Tensor, Info]:
    """Mean squared error of the grasps that were executed against the target of double DQN (arXiv 1509.06461).

    The grasp critic chooses the next grasp, its target values it. The penalty is in this target only. Leaves of
    the batch are (B, ...).
    """
    arm = agent.sac
    with torch.no_grad():
        seen, target_seen = (
            sac.encoded(arm, eyes, batch["next_observation"]) for eyes in (arm.critic, arm.target_critic)
        )
        best = grasp_values(agent, agent.grasp, seen).argmax(dim=-1, keepdim=True)
        next_value = torch.gather(grasp_values(agent, agent.target_grasp, target_seen), 1, best).squeeze(-1)
        matching, changed = taught_grasps(batch, agent.grippers)
        reward = batch["reward"] - agent.config.grasp_penalty * changed
        target = reward + batch.get("discount", arm.config.discount) * batch["mask"] * next_value
        observation = sac.encoded(arm, arm.critic, batch["observation"])
    values = grasp_values(agent, grasp, observation)
    taught = matching.sum(dim=-1).clamp(min=1.0)
    loss = ((matching * (values - target[:, None]).square()).sum(dim=-1) / taught).mean()
    return loss, {"grasp_loss": loss, "grasp_changes": changed.mean()}


def critic_step(agent: HybridAgent, batch: Batch) -> tuple[HybridAgent, Info]:
    """One update of all critics and their targets on one minibatch. Touches neither actor nor temperature."""
    slopes, info = gradients(lambda grasp: grasp_loss(agent, grasp, batch), agent.grasp)
    grasp, optimizer = adam(agent.grasp, slopes, agent.grasp_optimizer, agent.config.grasp_lr)
    target = follow(agent.target_grasp, grasp, agent.sac.config.target_rate)
    arm, arm_info = sac.critic_step(agent.sac, _of_arm(agent, batch))
    return agent.replace(sac=arm, grasp=grasp, grasp_optimizer=optimizer, target_grasp=target), info | arm_info


def actor_step(agent: HybridAgent, batch: Batch) -> tuple[HybridAgent, Info]:
    """One update of actor and temperature on one minibatch. Touches no critic."""
    arm, info = sac.actor_step(agent.sac, _of_arm(agent, batch))
    return agent.replace(sac=arm), info


_update = Update(critic_step, actor_step)


def _of_arm(agent: HybridAgent, batch: Batch) -> Batch:
    components = list(arm_components(agent.spec.action_dim, agent.grippers))
    return batch | {"action": batch["action"][..., components]}


def _grasp_network(config: HybridConfig, sac_config: SACConfig) -> MLP:
    grasps = len(grasp_table(len(config.grippers)))
    return MLP(config.grasp_hidden_sizes, sac_config.activation, sac_config.layer_norm, grasps)
