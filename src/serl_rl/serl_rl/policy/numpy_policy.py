# SPDX-License-Identifier: Apache-2.0
"""Acting with a policy, one observation at a time, in numpy; a backend encodes pictures, where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.architecture import PICTURE_CHANNELS
from serl_rl.policy.acting import make_acting
from serl_rl.policy.network import CameraHead, Network, PolicyArrays
from serl_rl.policy.snapshot import ENCODER, FrameInput, PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec, kind_of


class PictureEncoder(Protocol):
    """Makes features of the pictures that a policy acts on. `serl_rl.backends.make_policy` finds one."""

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (h, w, c) of the features of a picture of this size [pixels]."""

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (h, w, S * c) of S pictures side by side (H, W, S * 3)."""


class NumpyPolicy:
    """Acts on one observation at a time."""

    def __init__(self, snapshot: PolicySnapshot, pictures: PictureEncoder | None = None) -> None:
        """Put the policy together.

        Args:
            snapshot: of the policy.
            pictures: encodes them for a policy that acts on pictures; None for any other.

        Raises:
            DataError: the arrays do not make networks for the observation.
        """
        frames, arrays = snapshot.frames, PolicyArrays(snapshot.arrays)
        if (frames is not None and frames.pictures) != (pictures is not None):
            raise DataError("frames", "pictures" if pictures else "features", "features" if pictures else "pictures")
        self._frames, self._pictures, self._meaning = frames, pictures, snapshot.meaning
        self._widths = dict(snapshot.observation)
        shapes = {} if frames is None else {name: self._feature_shape(frames, name) for name in frames.shapes}
        if not self._widths and not shapes:
            raise DataError("observation", "at least one entry", "none")
        if pictures is not None:
            arrays.pass_over(ENCODER)
        pooling = frames.pooling if frames else "average"
        self._cameras = {name: CameraHead(arrays, name, shape, pooling) for name, shape in shapes.items()}
        width = sum(camera.width for camera in self._cameras.values()) + sum(self._widths.values())

        def network(prefix: str, outputs: int | None) -> Network:
            return Network(arrays, prefix, width, snapshot.activation, outputs)

        self.acting = make_acting(snapshot.actor, network)
        arrays.expect_all_used()

    def _feature_shape(self, frames: FrameInput, name: str) -> tuple[int, int, int]:
        """Shape (h, w, c) of what the head of a camera takes."""
        if self._pictures is None:
            return frames.shapes[name]
        height, width, channels = frames.shapes[name]
        if channels != PICTURE_CHANNELS * frames.frame_stack:
            raise DataError(f"frames {name}", f"{PICTURE_CHANNELS * frames.frame_stack} channels", str(channels))
        h, w, c = self._pictures.feature_shape(height, width)
        return h, w, c * frames.frame_stack

    @property
    def action_dim(self) -> int:
        """Number of action components A."""
        return self.acting.action_dim

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless the policy is for observations and actions of `spec`."""
        widths = {name: spec.observation[name].elements for name in spec.vector_names}
        if widths != self._widths:
            raise DataError("observation", str(widths), str(self._widths))
        shapes = {name: spec.drawn_shape(name) for name in spec.frame_names}
        found = dict(self._frames.shapes) if self._frames else {}
        if shapes != found:
            raise DataError("observation", str(shapes), str(found))
        if self._frames and not self._frames.pictures and spec.encoder != self._frames.encoder:
            raise DataError("encoder", f"features of the encoder {spec.encoder}", f"{self._frames.encoder!r}")
        if self._frames and spec.frame_stack != self._frames.frame_stack:
            raise DataError("frame_stack", str(spec.frame_stack), str(self._frames.frame_stack))
        if self.action_dim != spec.action_dim:
            raise DataError("action_dim", str(spec.action_dim), str(self.action_dim))
        self.acting.planner.check(spec)
        if self._meaning and spec.meaning and self._meaning != spec.meaning:
            difference = spec.difference(replace(spec, meaning=self._meaning))
            raise DataError("policy", "one of the same task", f"another: {difference}")

    @property
    def planned(self) -> int:
        """Actions that it will execute before it looks again; `reset` makes it look at once."""
        return self.acting.planned

    def reset(self) -> None:
        """Begin an episode, or go on after somebody else has moved the arm: forget what was planned."""
        self.acting.reset()

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] for one observation: the best one, or one that explores, drawn with `rng`.

        Of features (K, h, w, c) it looks at view 0, the picture that was not shifted; a stack of S > 1 frames comes as
        (h, w, S * c). Raises ValueError where `rng` is missing.
        """
        if not deterministic and rng is None:
            raise ValueError("rng: expected a generator for a sampled action, found None")
        return self.acting.act(observation, lambda: self.encode(observation), None if deterministic else rng)

    def encode(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The vector (D,) that the networks take: what is seen, camera by camera, then the entries that are vectors."""
        parts = [camera(self._features(name, observation[name])) for name, camera in self._cameras.items()]
        return np.concatenate([*parts, *(observation[name] for name in self._widths)])

    def _features(self, name: str, frame: NDArray[Any]) -> NDArray[np.float32]:
        """Feature map (h, w, c) of the frame of one camera."""
        if self._pictures is not None:
            return self._pictures(frame)
        has_views = kind_of(frame.shape, frame.dtype) == "features"  # a stack of frames has none
        return (frame[0] if has_views else frame).astype(np.float32)
