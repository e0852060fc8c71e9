# SPDX-License-Identifier: Apache-2.0
"""The policy as arrays: what a learner publishes, what checkpoints keep and what actors run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from serl_config.strict_json import parse_json

from serl_rl.config import Activation, Pooling
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError
from serl_rl.policy.acting import Actor, ArmActor, PerArm
from serl_rl.spec import DataError
from serl_rl.storage import tensors

FORMAT = "serl-policy-3"
_UNSEALED = "serl-policy-2"  # of older files: the same without a checksum

ENCODER = "vision/encoder"
"""Below this name are the arrays of an encoder that was trained with the policy."""

EXPLORING = "exploring"
"""Below this name are the arrays that take the place of others while the policy explores."""

CRITICS = "critics"
"""Below this name are, below the number of each critic, the arrays of those that choose between proposals, and their
`vision`."""

ARMS = "arms"
"""Below this name are, below that of each arm, the arrays of a policy of several."""


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
        of a second network below its name; with frames those of an `ObservationEncoder` under vision/; below exploring/
        those that take the place of others where actions explore; below critics/I/ those of critics that choose between
        proposals; of a policy for each arm all of this below arms/NAME/, and below exploring/arms/NAME/; all float32
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
        """Inverse of `to_bytes`; raises DataError for anything else. `NumpyPolicy` checks that the arrays fit."""
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

    def encoder(self, frozen: Encoder | None) -> Encoder:
        """The encoder that makes features of the pictures which the policy acts on.

        Args:
            frozen: the encoder at hand, for a policy that was trained with a frozen one and has none of its own.

        Raises:
            DataError: its own weights make no encoder of the kind that `frames` names, or the frozen encoder is missing
                or another one than it was trained with.
        """
        frames = self.frames
        if frames is None or not frames.pictures:
            raise DataError("frames", "pictures", "features" if frames else "none")
        if frames.encoder:
            if frozen is None or frozen.hash != frames.encoder:
                raise DataError("encoder", f"the encoder {frames.encoder!r}", frozen.hash if frozen else "none")
            return frozen
        prefix = f"{ENCODER}/"
        own = {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}
        try:
            return Encoder.from_weights(frames.encoder_kind, own, "policy")
        except EncoderError as error:
            raise DataError(ENCODER, "the weights of its kind of encoder", str(error)) from error


def joined_snapshot(parts: Mapping[str, tuple[tuple[int, ...], PolicySnapshot]]) -> PolicySnapshot:
    """One policy that acts for several arms.

    Args:
        parts: places of each arm's components in the action, and its policy, by its name; all look at the same
            observations.

    Raises:
        ValueError: a part is made of parts itself.
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    actors = []
    for arm, (components, part) in parts.items():
        if isinstance(part.actor, PerArm):
            raise ValueError(f"parts: expected policies of one arm, found several in {arm!r}")
        actors.append(ArmActor(arm, components, part.actor))
        for name, array in part.arrays.items():
            explores = name.startswith(f"{EXPLORING}/")
            own = name.removeprefix(f"{EXPLORING}/")
            arrays[f"{EXPLORING}/{ARMS}/{arm}/{own}" if explores else f"{ARMS}/{arm}/{own}"] = array
    _, first = next(iter(parts.values()))
    return replace(first, arrays=arrays, actor=PerArm(tuple(actors)))


_ACTOR: TypeAdapter[Actor] = TypeAdapter(Actor)
_FRAMES: TypeAdapter[FrameInput | None] = TypeAdapter(FrameInput | None)
