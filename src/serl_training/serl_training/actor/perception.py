# SPDX-License-Identifier: Apache-2.0
"""What an actor makes of observations before it acts on them and sends them: features of pictures, stacks, history."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.backends import make_frame_encoder
from serl_rl.config import LearningConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.frames import FrameEncoder
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.spec import TransitionSpec
from serl_rl.storage.demonstrations import Encoding

from serl_tasks import Task
from serl_training.actor.history import HistoryEnv
from serl_training.env.base_action import BaseActionEnv
from serl_training.env.episode import Observation
from serl_training.link.contract import find_encoder, transition_spec, without_base, without_history


@dataclass(frozen=True)
class Perception:
    """What stands between an environment of a task and the transitions of its episodes."""

    spec: TransitionSpec
    pictures: TransitionSpec
    """Specification of what recorded files hold: pictures of the cameras, cropped and in the task's size."""
    weights: Encoder | None
    """The encoder for the task's cameras, None if it has none."""
    encoder: FrameEncoder | None
    """Where pictures are encoded as they come."""
    momentary: TransitionSpec
    """`spec` with vectors of one moment."""
    history: int = 1
    """Moments that a vector of `spec` holds."""
    base: ActingPolicy | None = None
    """The imported policy that is improved, whose actions are a part of the observations; None: there is none."""
    without_base: TransitionSpec | None = None
    """`spec` without these, where there are some."""

    def wrap(self, env: gym.Env[Observation, NDArray[np.float32]]) -> gym.Env[Observation, NDArray[np.float32]]:
        """The environment with observations as `spec` has them; its actions are (A,)."""
        if self.base is not None:
            env = BaseActionEnv(env, self.base)
        if self.encoder is not None:
            env = EncodedEnv(env, self.encoder, self.momentary)
        return env if self.history == 1 else HistoryEnv(env, self.history, self.momentary.vector_names)

    def encoding(self, seed: int) -> Encoding | None:
        """What makes features of recorded pictures, with random shifts of `seed`; None where `spec` has no features."""
        return None if self.encoder is None else Encoding(self.pictures, self.encoder.reseeded(seed).encode_rows)


def make_perception(
    task: Task,
    config: LearningConfig,
    seed: int,
    *,
    simulated: bool = False,
    base: ActingPolicy | None = None,
) -> Perception:
    """Load and compile what a task's pictures need. Imports the backend where it has cameras.

    Args:
        task: with or without cameras.
        config: of the learning.
        seed: of the random shifts.
        simulated: whether the cameras look at the task's simulated world, not at a real one.
        base: the imported policy that is improved, as of `find_policy`; None where none is.

    Raises:
        EncoderError: as for `find_encoder`.
        ValueError: the settings improve a policy and there is none, or the other way round.
    """
    if config.improves != (base is not None):
        raise ValueError(
            f"base: expected a policy exactly where one is improved, found {base} and {config.sac.improve}"
        )
    weights = find_encoder(task, config, simulated=simulated)
    momentary = without_history(config)
    spec, pictures = transition_spec(task, config, weights), transition_spec(task, momentary, None)
    single, history = transition_spec(task, momentary, weights), config.acting.history
    further = None if base is None else transition_spec(task, without_base(config), weights)
    settings = config.vision.encoder
    if weights is None or not settings.caches_features:
        return Perception(spec, pictures, weights, None, single, history, base, further)
    encoder = make_frame_encoder(weights, settings, seed, config.backend)
    encoder.encode({name: np.zeros(view.shape, np.uint8) for name, view in task.cameras.items()})  # compiles
    return Perception(spec, pictures, weights, encoder, single, history, base, further)


class EncodedEnv(gym.ObservationWrapper[Observation, NDArray[np.float32], Observation]):
    """An environment whose pictures are encoded as they come: each becomes features, float16 (K, h, w, C)."""

    def __init__(
        self, env: gym.Env[Observation, NDArray[np.float32]], encoder: FrameEncoder, spec: TransitionSpec
    ) -> None:
        """Wrap an environment.

        Args:
            env: whose observations hold pictures.
            encoder: of the pictures.
            spec: of the transitions; its features are the cameras.
        """
        super().__init__(env)
        self._encoder = encoder
        self._cameras = tuple(name for name, entry in spec.observation.items() if entry.kind == "features")
        spaces: dict[str, gym.Space[Any]] = {
            name: gym.spaces.Box(-np.inf, np.inf, entry.shape, np.dtype(entry.dtype).type)
            for name, entry in spec.observation.items()
        }
        self.observation_space = cast(gym.Space[Observation], gym.spaces.Dict(spaces))

    def observation(self, observation: Observation) -> Observation:
        """The observation with features instead of pictures."""
        features = self._encoder.encode({name: observation[name] for name in self._cameras})
        return {**observation, **features}


class FrameStacker:
    """Puts the newest `frame_stack` frames of an episode side by side, as a policy with such a spec expects them."""

    def __init__(self, spec: TransitionSpec) -> None:
        """Make a stacker for the frames of `spec`."""
        self.spec = spec
        self._views = {name: spec.observation[name].kind == "features" for name in spec.frame_names}
        self._frames: dict[str, deque[NDArray[Any]]] = {
            name: deque(maxlen=spec.frame_stack) for name in spec.frame_names if spec.frame_stack > 1
        }

    def reset(self) -> None:
        """Begin an episode: its first frame stands for those before it."""
        for frames in self._frames.values():
            frames.clear()

    def __call__(self, observation: Observation) -> Observation:
        """Add the frames of an observation; returns it with stacks (H, W, frame_stack * C), oldest first."""
        if not self._frames:
            return observation
        stacked = dict(observation)
        for name, frames in self._frames.items():
            frame = observation[name][0] if self._views[name] else observation[name]
            frames.extend([frame] * (1 if frames else frames.maxlen or 1))
            stacked[name] = np.concatenate(frames, axis=-1)
        return stacked
