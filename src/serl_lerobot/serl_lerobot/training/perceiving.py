# SPDX-License-Identifier: Apache-2.0
"""What a learner without a graph sees: the vector of an environment, features of its pictures, and base actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from serl_config.resources import find
from serl_config.schema import ConfigError
from serl_rl.backends import make_frame_encoder
from serl_rl.base_action import with_base_action
from serl_rl.config import LearningConfig
from serl_rl.encoders.loading import load_encoder
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_training.actor.perception import EncodedEnv
from serl_training.env.base_action import BaseActionEnv


def cameras_of(env: gym.Env[Any, Any]) -> dict[str, tuple[int, int]]:
    """Height and width of each camera's pictures in the observations of an environment, by name."""
    entries = env.observation_space.spaces.items()  # type: ignore[attr-defined]
    return {name: space.shape[:2] for name, space in entries if len(space.shape) == 3}


def perceive(
    env: gym.Env[Any, Any], config: LearningConfig, base: ActingPolicy | None, seed: int
) -> tuple[gym.Env[Any, Any], TransitionSpec]:
    """The environment as its learner sees it, and the specification of its transitions.

    Args:
        env: with the entry `state` and pictures (H, W, 3), uint8.
        config: of the learning.
        base: the imported policy that is improved; None where none is.
        seed: of the random shifts of pictures.

    Raises:
        ConfigError: there are cameras, and the settings do not encode pictures when they arrive; or they look at
            several moments at once.
        EncoderError: the weights that they name cannot be used.
    """
    size = int((env.action_space.shape or (0,))[0])
    state = env.observation_space["state"]  # type: ignore[index]
    spec = TransitionSpec({"state": ArraySpec(state.shape, "float32")}, size)
    env = _Seen(env)
    if base is not None:
        env = BaseActionEnv(env, base)
    if cameras := cameras_of(env):
        settings = config.vision.encoder
        if not settings.caches_features or config.vision.frame_stack > 1:
            raise ConfigError("learning: expected an encoder that is frozen and cached, and a frame_stack of 1")
        weights = load_encoder(settings, tuple(cameras), find, world=None)
        features = {
            name: ArraySpec((settings.views, *weights.feature_shape(*shape)), "float16")
            for name, shape in cameras.items()
        }
        spec = TransitionSpec({**spec.observation, **features}, size, weights.hash)
        encoder = make_frame_encoder(weights, settings, seed, config.backend)
        encoder.encode({name: np.zeros((*shape, 3), np.uint8) for name, shape in cameras.items()})  # compiles
        env = EncodedEnv(env, encoder, spec)
    if config.acting.history > 1:
        raise ConfigError(f"learning: expected acting.history 1 without a graph, found {config.acting.history}")
    return env, spec if base is None else with_base_action(spec)


class _Seen(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that is asked for no options, and in which nobody intervenes unless it says so."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act for one step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {"intervention": False, **info}
