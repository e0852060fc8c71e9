# SPDX-License-Identifier: Apache-2.0
"""The policy as arrays: what a learner publishes and actors run. Imports no JAX, unless the policy acts on pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from serl_config.strict_json import parse_json

from serl_rl.config import Activation, Pooling
from serl_rl.policy.acting import Actor, make_acting
from serl_rl.policy.network import CameraHead, Network, PolicyArrays
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import tensors

if TYPE_CHECKING:
    from serl_rl.jax.encoders.encoder import Encoder

FORMAT = "serl-policy-3"
_UNSEALED = "serl-policy-2"  # of older files: the same without a checksum


@dataclass(frozen=True)
class FrameInput:
    """How a policy looks at the frames of an observation.

    shapes: entry -> shape (H, W, S * 3) of pictures or (h, w, S * c) of feature maps, S the frame_stack
    pictures: whether the frames are pictures; otherwise they are features
    encoder_kind: of pictures, as in `EncoderConfig`; empty with features
    encoder: hash of the frozen encoder of the features or pictures; empty where the policy has an encoder of its own
    pooling: as in `VisionConfig`
    """

    shapes: Mapping[str, tuple[int, int, int]]
    pictures: bool
    encoder_kind: str
    encoder: str
    pooling: Pooling
    frame_stack: int


@dataclass(frozen=True)
class PolicySnapshot:
    """Parameters of a policy and how they belong together.

    arrays: trunk/dense_I/{kernel,bias}, with normalized layers trunk/norm_I/{scale,bias}, and head/{kernel,bias}; those
        of a second network below its name; with frames those of an `ObservationEncoder` under vision/; all float32
    observation: names and widths of the vectors that are concatenated into the input, behind what frames give
    activation: relu or tanh
    actor: what the outputs mean
    frames: how it looks at frames; None if it looks at vectors only
    meaning: of the numbers that it was trained on, as in `TransitionSpec`; empty: unknown
    """

    arrays: Mapping[str, NDArray[np.float32]]
    observation: Mapping[str, int]
    activation: Activation
    actor: Actor
    frames: FrameInput | None = None
    meaning: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The snapshot as a safetensors file."""
        description = {
            "format": FORMAT,
            "observation": list(self.observation.items()),
            "activation": self.activation,
            "actor": asdict(self.actor),
            "frames": asdict(self.frames) if self.frames else None,
            "meaning": self.meaning,
        }
        return tensors.pack(self.arrays, {"policy": json.dumps(description)})

    @classmethod
    def from_bytes(cls, data: bytes) -> PolicySnapshot:
        """Inverse of `to_bytes`; raises DataError for anything else. `policy` checks that the arrays fit."""
        arrays, metadata = tensors.unpack(data)
        try:
            description = parse_json(metadata["policy"])
            found = description["format"]
            if found not in (FORMAT, _UNSEALED):
                raise DataError("policy", FORMAT, repr(found))
            if found != _UNSEALED:
                tensors.expect_seal(metadata)
            observation = {str(name): int(width) for name, width in description["observation"]}
            actor = _ACTOR.validate_python(description["actor"])
            frames = _FRAMES.validate_python(description["frames"])
            meaning = dict(description.get("meaning", {}))
            return cls(arrays, observation, description["activation"], actor, frames, meaning)
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError("policy", "a description of the policy", f"{metadata!r:.200} ({error})") from error

    def policy(self, encoder: Encoder | None = None) -> NumpyPolicy:
        """The policy itself.

        Args:
            encoder: the frozen encoder of a policy that acts on pictures and has none of its own.

        Raises:
            DataError: the parts do not belong together, or the encoder is missing or another one.
        """
        if self.frames is None or not self.frames.pictures:
            return NumpyPolicy(self)
        from serl_rl.jax.pixel_policy import PixelPolicy

        return PixelPolicy(self, encoder)


_ACTOR: TypeAdapter[Actor] = TypeAdapter(Actor)
_FRAMES: TypeAdapter[FrameInput | None] = TypeAdapter(FrameInput | None)


class NumpyPolicy:
    """A policy for one observation of vectors and features at a time, in numpy.

    Raises DataError if the arrays of the snapshot do not make networks for its observation.
    """

    def __init__(self, snapshot: PolicySnapshot) -> None:
        frames = snapshot.frames
        if frames is not None and frames.pictures:
            raise DataError("frames", "features", "pictures")
        self._build(snapshot, PolicyArrays(snapshot.arrays), dict(frames.shapes) if frames else {})

    def _build(
        self, snapshot: PolicySnapshot, arrays: PolicyArrays, feature_shapes: Mapping[str, tuple[int, int, int]]
    ) -> None:
        self._frames = snapshot.frames
        self._meaning = snapshot.meaning
        self._widths = dict(snapshot.observation)
        if not self._widths and not feature_shapes:
            raise DataError("observation", "at least one entry", "none")
        pooling = snapshot.frames.pooling if snapshot.frames else "average"
        self._cameras = {name: CameraHead(arrays, name, shape, pooling) for name, shape in feature_shapes.items()}
        width = sum(camera.width for camera in self._cameras.values()) + sum(self._widths.values())

        def network(prefix: str, outputs: int | None) -> Network:
            return Network(arrays, prefix, width, snapshot.activation, outputs)

        self.acting = make_acting(snapshot.actor, network)
        arrays.expect_all_used()

    @classmethod
    def from_bytes(cls, data: bytes) -> NumpyPolicy:
        """The policy of a `PolicySnapshot.to_bytes`; raises DataError for anything else."""
        return PolicySnapshot.from_bytes(data).policy()

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
        self.acting.check(spec)
        if self._meaning and spec.meaning and self._meaning != spec.meaning:
            difference = spec.difference(replace(spec, meaning=self._meaning))
            raise DataError("policy", "one of the same task", f"another: {difference}")

    def reset(self) -> None:
        """Begin an episode: some policies plan more than one step."""
        self.acting.reset()

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] for one observation: the best one, or one that explores, drawn with `rng`.

        Of features (K, h, w, c) it looks at view 0, the picture that was not shifted; a stack of S > 1 frames comes as
        (h, w, S * c).
        """
        if not deterministic and rng is None:
            raise ValueError("rng: expected a generator for a sampled action, found None")
        return self.acting.act(observation, lambda: self.encode(observation), None if deterministic else rng)

    def encode(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The vector that the networks take."""
        parts = [camera(self._features(name, observation[name])) for name, camera in self._cameras.items()]
        return np.concatenate([*parts, *(observation[name] for name in self._widths)])

    def _features(self, name: str, frame: NDArray[Any]) -> NDArray[np.float32]:
        """Feature map (h, w, c) of the frame of one camera."""
        return (frame[0] if frame.ndim == 4 else frame).astype(np.float32)
