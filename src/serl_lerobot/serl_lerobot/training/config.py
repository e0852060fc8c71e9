# SPDX-License-Identifier: Apache-2.0
"""Settings of an online training without a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from serl_config.resources import find
from serl_config.schema import ConfigError, load_yaml
from serl_rl.config import LearningConfig

from serl_lerobot.robots.environment import RewardFunction
from serl_lerobot.robots.joint_map import JointMapSettings


@dataclass(kw_only=True)
class TrainingConfig:
    """What `OnlineRLTrainer` needs to know besides the robot and the policy that it begins with."""

    max_episode_length: int = 100
    """Control steps until an episode is cut off."""
    batch_size: int = 128
    """Transitions in a minibatch, half of them demonstrations."""
    replay_buffer_capacity: int = 200_000
    """Transitions of own experience that are learned from."""
    action_dim: int | None = None
    """Number of components of an action, to be checked; None: whatever the robot has."""
    wandb_project: str = ""
    """Project of Weights & Biases that gets the metrics as well; empty: none."""
    model: str = ""
    """Robot of `config/robots` that it is; empty: the only one with joints of these names."""
    task: str | None = None
    """Task whose actions and limits hold; None: deltas of the joints, within the limits of the robot's file."""
    mapping: JointMapSettings = field(default_factory=JointMapSettings)
    """What the robot's numbers mean."""
    reward_function: RewardFunction | None = None
    """Judges each observation; None: a person is asked at the end of each episode."""
    place: Callable[[], None] = lambda: None
    """Called when the arm is at the start, to put the objects in place."""
    demonstration_episodes: int = 10
    """Episodes in which the initial policy acts before learning; those that succeed are the demonstrations."""
    learning: str = ""
    """File in `config/learning` that has all other settings of the learning; empty: rlpd_state, or
    rlpd_vision_own_cameras for a robot with cameras."""
    improve: Literal["none", "proposals", "residual"] = "proposals"
    """How the initial policy is improved, as `sac.improve`; none: it demonstrates and is not asked any more."""
    run_dir: Path = Path("runs/online")
    """Gets the journal, checkpoints and metrics; a run that is there goes on."""
    seed: int = 0
    """Number that networks, sampling and exploration are drawn from."""

    def __post_init__(self) -> None:
        """Refuses numbers without sense.

        Raises:
            ConfigError: a number is too small; names it.
        """
        least = {"max_episode_length": 1, "batch_size": 2, "replay_buffer_capacity": 1, "demonstration_episodes": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigError(f"{name}: expected {smallest} or more, found {getattr(self, name)}")

    def learning_config(self, *, cameras: bool, initial: bool) -> LearningConfig:
        """The settings of the learning, with what is said here.

        Args:
            cameras: whether the robot has some.
            initial: whether there is a policy to begin with.

        Raises:
            ConfigError: there is no such file, it is wrong, or its algorithm cannot improve a policy.
        """
        name = self.learning or ("rlpd_vision_own_cameras" if cameras else "rlpd_state")
        config = load_yaml(find(f"config/learning/{name}.yaml"), LearningConfig)
        sac = replace(config.sac, improve=self.improve if initial else "none")
        try:
            return replace(config, sac=sac, batch_size=self.batch_size, replay_capacity=self.replay_buffer_capacity)
        except ValueError as error:
            raise ConfigError(f"learning: {name}: {error}") from error
