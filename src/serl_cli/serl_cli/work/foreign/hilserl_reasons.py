# SPDX-License-Identifier: Apache-2.0
"""Why settings of LeRobot's HIL-SERL have no counterpart here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_DRIVER = "of the driver: config/drivers, docs/drivers.md"
_GRAPH = "actor and learner are nodes that find each other: docs/architecture.md"
_OTHERS = "of trainings without a robot"
_NETWORK = "fixed by our network: docs/algorithms.md"
_VECTOR = "of the task's state: name the terms in `state`"
_RESET = "of the reset: `start` of the task, and ./serl train's `reset` by a person, docs/drivers.md"
_RECORDING = "recordings: ./serl record, ./serl convert, ./serl replay"

_PREFIXES: Final[Mapping[str, str]] = {
    "policy.actor_learner_config.": _GRAPH,
    "policy.concurrency.": _GRAPH,
    "policy.normalization_mapping": "the task's `state` has shift and scale of each term",
    "policy.dataset_stats": "the task's `state` has shift and scale of each term",
    "policy.output_features": "the task's `action`",
    "policy.actor_network_kwargs.": _NETWORK,
    "policy.critic_network_kwargs.": _NETWORK,
    "policy.discrete_critic_network_kwargs.": _NETWORK,
    "policy.policy_kwargs.": _NETWORK,
    "env.processor.observation.": _VECTOR,
    "env.processor.reset.": _RESET,
    "env.processor.": "of LeRobot's chain of processors: docs/coming_from.md",
    "env.wrapper.add_": _VECTOR,
    "env.wrapper.": "of LeRobot's wrappers: docs/coming_from.md",
    "env.robot.": _DRIVER,
    "env.teleop.": "of the device: ./serl teleop, docs/teleop.md",
    "env.features": "the task's `state`, `cameras` and `action`",
    "dataset.": _RECORDING,
    "wandb.": "of the metrics: --wandb",
    "eval.": "evaluation: --eval-every, --eval-episodes, ./serl eval",
}
_MACHINE = "of the machine"
_RUNS = "runs are kept in runs/NAME, continued by --resume NAME"
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "not a setting of ours": (
        "policy.policy_update_freq policy.grad_clip_norm policy.actor_grad_clip",
        "policy.critic_grad_clip policy.weight_decay",
    ),
    _MACHINE: (
        "policy.device policy.storage_device policy.use_amp policy.async_prefetch policy.use_torch_compile",
        "policy.use_peft device num_workers",
    ),
    _NETWORK: (
        "policy.image_encoder_hidden_dim policy.state_encoder_hidden_dim policy.shared_encoder",
        "policy.num_downsample_convs policy.num_post_downsample_convs policy.encoder_channels",
        "policy.encoder_kernel_size policy.encoder_padding policy.normalise_encoder_inputs policy.view_fusion_mode",
        "policy.norm_after_bottleneck policy.tanh_after_bottleneck policy.use_rnn policy.num_rnn_layers",
        "policy.rnn_hidden_size policy.use_augmentation policy.n_obs_steps policy.skip_pretrained_critic",
    ),
    _RUNS: (
        "policy.push_to_hub policy.repo_id policy.private policy.tags policy.license env.push_to_hub",
        "output_dir resume save_checkpoint save_freq log_freq eval_freq",
    ),
    _OTHERS: (
        "steps tolerance_s use_policy_training_preset optimizer scheduler rename_map peft num_episodes",
        "policy.drop_n_last_frames",
    ),
    _RECORDING: (
        "mode env.mode env.repo_id env.dataset_root env.num_episodes env.episode dataset env.robot env.teleop",
    ),
    "the task says it": (
        "env.type env.name env.task env.device env.pretrained_policy_name_or_path",
        "env.number_of_steps_after_success env.online_env_seed",
    ),
}
"""Names of settings without a counterpart, by the reason."""


def reason_for(setting: str) -> str | None:
    """Why a setting has no counterpart; None: it is not known."""
    for reason, names in _NAMES.items():
        if any(setting in line.split() for line in names):
            return reason
    return next((reason for prefix, reason in _PREFIXES.items() if setting.startswith(prefix)), None)
