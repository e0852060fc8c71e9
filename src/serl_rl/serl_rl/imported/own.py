# SPDX-License-Identifier: Apache-2.0
"""Policies of this workspace as policies of a task's own observations: pictures as cameras give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes
from serl_config.schema import load_yaml

from serl_rl import checkpoint
from serl_rl.backends import make_frame_encoder, make_policy
from serl_rl.config import LearningConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.frames import FrameEncoder
from serl_rl.encoders.loading import load_encoder
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import ArraySpec, DataError, TransitionSpec

MAX_FILE = 2**30  # [bytes]


def open_own(path: Path, spec: TransitionSpec, find: Callable[[str], Path], world: str | None) -> ActingPolicy:
    """The newest policy of a run, or the one of a file.

    Args:
        path: of the run's folder, of a checkpoint's, or of a file of a policy that looks at no pictures.
        spec: of the task's observations as its environment gives them.
        find: finds shipped encoders, as for `load_encoder`.
        world: the simulated world that the pictures show; None: real ones.

    Raises:
        DataError: it is for other observations or actions, or sees several moments.
        CheckpointError: the run has no checkpoint, or a damaged one.
        EncoderError: the encoder of its pictures cannot be found.
        ConfigError: the run's learning.yaml cannot be used.
    """
    run = path if (path / "learning.yaml").is_file() else path.parent.parent
    snapshot = _snapshot(path)
    if snapshot.frames is None:
        policy = make_policy(snapshot)
        policy.check(spec)
        return policy
    if not (run / "learning.yaml").is_file():
        raise DataError("policy", "the folder of its run, which says how it encodes pictures", str(path))
    config = load_yaml(run / "learning.yaml", LearningConfig)
    if config.acting.history > 1 or snapshot.frames.frame_stack > 1:
        raise DataError("policy", "one that sees a single moment", "acting.history or vision.frame_stack above 1")
    cameras = tuple(name for name, entry in spec.observation.items() if entry.kind == "image")
    weights = load_encoder(config.vision.encoder, cameras, find, world=world)
    if snapshot.frames.pictures:
        policy = make_policy(snapshot, weights)
        policy.check(spec)
        return policy
    settings = replace(config.vision.encoder, views=1, shift=0)
    return _Looking(make_policy(snapshot), make_frame_encoder(weights, settings, 0), weights, spec)


def check_own(path: Path, spec: TransitionSpec) -> None:
    """Look whether there is a policy at a path, and, if it looks at no pictures, whether it is for these observations.

    Raises:
        DataError, CheckpointError: as `open_own`.
    """
    snapshot = _snapshot(path)
    if snapshot.frames is None:
        make_policy(snapshot).check(spec)


def _snapshot(path: Path) -> PolicySnapshot:
    if path.is_file():
        try:
            return PolicySnapshot.from_bytes(read_bytes(path, MAX_FILE))
        except FileError as error:
            raise DataError("policy", "a file that can be read", str(error)) from error
    if (path / "policy.safetensors").is_file():
        return checkpoint.load_policy(path)
    newest = checkpoint.latest(path / "checkpoints")
    if newest is None:
        raise checkpoint.CheckpointError(f"{path}: expected a run with a checkpoint, found none: train first")
    return checkpoint.load_policy(newest)


class _Looking:
    """A policy that acts on features of a frozen encoder, in front of the task's pictures."""

    def __init__(self, policy: ActingPolicy, encoder: FrameEncoder, weights: Encoder, spec: TransitionSpec) -> None:
        self._policy, self._encoder = policy, encoder
        self._cameras = tuple(name for name, entry in spec.observation.items() if entry.kind == "image")
        self._spec, self._weights = spec, weights
        self.check(spec)
        encoder.encode({name: np.zeros(spec.observation[name].shape, np.uint8) for name in self._cameras})  # compiles

    @property
    def action_dim(self) -> int:
        return self._policy.action_dim

    @property
    def planned(self) -> int:
        return self._policy.planned

    def check(self, spec: TransitionSpec) -> None:
        observation: dict[str, ArraySpec] = dict(spec.observation)
        for name in self._cameras:
            if name not in observation:
                raise DataError("observation", f"pictures of {name}", ", ".join(observation))
            height, width, _ = observation[name].shape
            observation[name] = ArraySpec((1, *self._weights.feature_shape(height, width)), "float16")
        self._policy.check(replace(spec, observation=observation, encoder=self._weights.hash))

    def reset(self) -> None:
        self._policy.reset()

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        seen = dict(observation)
        if not self._policy.planned:
            seen |= self._encoder.encode({name: observation[name] for name in self._cameras})
        return self._policy.act(seen, deterministic=deterministic, rng=rng)
