# SPDX-License-Identifier: Apache-2.0
"""The policy as arrays: what a learner publishes and actors run. Imports no JAX, unless the policy acts on pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from serl_rl import tensors
from serl_rl.config import Activation, Pooling
from serl_rl.spec import MAX_ARRAY_ELEMENTS, DataError, TransitionSpec

if TYPE_CHECKING:
    from serl_rl.encoders import Encoder

FORMAT = "serl-policy-2"
NORM_EPSILON = 1e-6


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

    arrays: trunk/dense_I/{kernel,bias}, with normalized layers trunk/norm_I/{scale,bias}, and head/{kernel,bias}, which
        gives mean and log standard deviation; with frames those of an `ObservationEncoder` under vision/; all float32
    observation: names and widths of the vectors that are concatenated into the input, behind what frames give
    activation: relu or tanh
    log_std_bounds: between which the log standard deviation is clipped
    frames: how it looks at frames; None if it looks at vectors only
    """

    arrays: Mapping[str, NDArray[np.float32]]
    observation: Mapping[str, int]
    activation: Activation
    log_std_bounds: tuple[float, float]
    frames: FrameInput | None = None

    def to_bytes(self) -> bytes:
        """The snapshot as a safetensors file."""
        description = {
            "format": FORMAT,
            "observation": list(self.observation.items()),
            "activation": self.activation,
            "log_std_bounds": list(self.log_std_bounds),
            "frames": asdict(self.frames) if self.frames else None,
        }
        return tensors.pack(self.arrays, {"policy": json.dumps(description)})

    @classmethod
    def from_bytes(cls, data: bytes) -> PolicySnapshot:
        """Inverse of `to_bytes`; raises DataError for anything else. `policy` checks that the arrays fit."""
        arrays, metadata = tensors.unpack(data)
        try:
            description = json.loads(metadata["policy"])
            found = description["format"]
            if found != FORMAT:
                raise DataError("policy", FORMAT, repr(found))
            low, high = map(float, description["log_std_bounds"])
            observation = {str(name): int(width) for name, width in description["observation"]}
            frames = _FRAMES.validate_python(description["frames"])
            return cls(arrays, observation, description["activation"], (low, high), frames)
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
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
        from serl_rl.pixel_policy import PixelPolicy

        return PixelPolicy(self, encoder)


_FRAMES: TypeAdapter[FrameInput | None] = TypeAdapter(FrameInput | None)


class NumpyPolicy:
    """A tanh-squashed Gaussian policy for one observation of vectors and features at a time, in numpy.

    Raises DataError if the arrays of the snapshot do not make an MLP for its observation.
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
        self._widths = dict(snapshot.observation)
        if snapshot.activation not in get_args(Activation):
            raise DataError("activation", " or ".join(get_args(Activation)), repr(snapshot.activation))
        if not self._widths and not feature_shapes:
            raise DataError("observation", "at least one entry", "none")
        pooling = snapshot.frames.pooling if snapshot.frames else "average"
        self._cameras = {name: _CameraHead(arrays, name, shape, pooling) for name, shape in feature_shapes.items()}
        width = sum(camera.width for camera in self._cameras.values()) + sum(self._widths.values())
        self._layers: list[tuple[NDArray[Any], NDArray[Any], tuple[NDArray[Any], NDArray[Any]] | None]] = []
        while f"trunk/dense_{len(self._layers)}/kernel" in snapshot.arrays:
            kernel, bias = arrays.dense(f"trunk/dense_{len(self._layers)}", width)
            width = kernel.shape[1]
            norm = arrays.norm(f"trunk/norm_{len(self._layers)}", width)
            self._layers.append((kernel, bias, norm))
        self._head = arrays.dense("head", width)
        self.action_dim, odd = divmod(self._head[0].shape[1], 2)
        if odd or not self.action_dim:
            raise DataError("head/kernel", "an even number of outputs", str(self._head[0].shape[1]))
        arrays.expect_all_used()
        self._bounds = snapshot.log_std_bounds
        if not -50.0 <= self._bounds[0] <= self._bounds[1] <= 50.0:
            raise DataError("log_std_bounds", "-50 <= low <= high <= 50", str(self._bounds))
        self._relu = snapshot.activation == "relu"

    @classmethod
    def from_bytes(cls, data: bytes) -> NumpyPolicy:
        """The policy of a `PolicySnapshot.to_bytes`; raises DataError for anything else."""
        return PolicySnapshot.from_bytes(data).policy()

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

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] for one observation: the squashed mean, or a sample drawn with `rng`.

        Of features (K, h, w, c) it looks at view 0, the picture that was not shifted; a stack of S > 1 frames comes as
        (h, w, S * c).
        """
        mean, log_std = self.distribution(observation)
        if not deterministic:
            if rng is None:
                raise ValueError("rng: expected a generator for a sampled action, found None")
            mean += np.exp(log_std) * rng.standard_normal(self.action_dim, dtype=np.float32)
        return np.tanh(mean)

    def distribution(self, observation: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and log standard deviation, (A,) each, before the squashing."""
        parts = [camera(self._features(name, observation[name])) for name, camera in self._cameras.items()]
        x = np.concatenate([*parts, *(observation[name] for name in self._widths)])
        for kernel, bias, norm in self._layers:
            x = x @ kernel + bias
            if norm is not None:
                x = _normalized(x, norm)
            x = np.maximum(x, np.float32(0.0)) if self._relu else np.tanh(x)
        kernel, bias = self._head
        x = x @ kernel + bias
        return x[: self.action_dim], np.clip(x[self.action_dim :], *self._bounds)

    def _features(self, name: str, frame: NDArray[Any]) -> NDArray[np.float32]:
        """Feature map (h, w, c) of the frame of one camera."""
        return (frame[0] if frame.ndim == 4 else frame).astype(np.float32)


class _CameraHead:
    """What follows the encoder for one camera: pooling, dense layer, layer normalization, tanh."""

    def __init__(self, arrays: PolicyArrays, name: str, shape: tuple[int, int, int], pooling: Pooling) -> None:
        if min(shape) < 1 or prod(shape) > MAX_ARRAY_ELEMENTS:
            raise DataError(f"frames {name}", "positive sizes", str(shape))
        height, width, channels = shape
        prefix = f"vision/heads_{name}"
        self._positions = height * width
        self._pooling = pooling
        match pooling:
            case "spatial_embeddings":
                kernel = arrays.take(f"{prefix}/pooling/kernel", (height, width, channels, None))
                self._kernel = kernel.reshape(self._positions, channels, -1)
                pooled = channels * self._kernel.shape[2]
            case "spatial_softmax":
                self._temperature = arrays.take(f"{prefix}/pooling/temperature", ())
                y, x = np.meshgrid(np.linspace(-1.0, 1.0, height), np.linspace(-1.0, 1.0, width), indexing="ij")
                self._grid = np.stack([x.ravel(), y.ravel()]).astype(np.float32)
                pooled = 2 * channels
            case "average":
                pooled = channels
        self._dense = arrays.dense(f"{prefix}/dense", pooled)
        self.width = self._dense[0].shape[1]
        norm = arrays.norm(f"{prefix}/norm", self.width)
        if norm is None:
            raise DataError(f"{prefix}/norm/scale", "an array", "nothing")
        self._norm = norm

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        kernel, bias = self._dense
        return np.tanh(_normalized(self._pool(features.reshape(self._positions, -1)) @ kernel + bias, self._norm))

    def _pool(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._pooling == "spatial_embeddings":
            return np.einsum("pc,pce->ce", features, self._kernel).ravel()
        if self._pooling == "spatial_softmax":
            logits = features / self._temperature
            weights = np.exp(logits - logits.max(axis=0))
            return (self._grid @ (weights / weights.sum(axis=0))).ravel()
        return features.mean(axis=0)


def _normalized(x: NDArray[np.float32], norm: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.float32]:
    """Layer normalization of a vector that may be overwritten."""
    x -= x.mean()
    x *= np.float32(1.0) / np.sqrt(x @ x / np.float32(len(x)) + np.float32(NORM_EPSILON))
    return x * norm[0] + norm[1]


class PolicyArrays:
    """Arrays of a snapshot, taken by name; checks shapes and that all were taken."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self._used: set[str] = set()

    def take(self, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """The float32 array with this name and shape, None standing for any size."""
        if name not in self._arrays:
            raise DataError(name, "an array", "nothing")
        array = self._arrays[name]
        fits = len(array.shape) == len(shape)
        fits = fits and all(size in (None, found) for size, found in zip(shape, array.shape, strict=True))
        if array.dtype != np.float32 or not fits:
            raise DataError(name, f"float32 {shape}".replace("None", "any"), f"{array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise DataError(name, "finite values", "nan or inf")
        self._used.add(name)
        return array

    def take_all(self, prefix: str) -> dict[str, NDArray[Any]]:
        """All arrays below a prefix, by the rest of their names; for whoever knows their shapes."""
        names = [name for name in self._arrays if name.startswith(f"{prefix}/")]
        self._used.update(names)
        return {name.removeprefix(f"{prefix}/"): self._arrays[name] for name in names}

    def dense(self, prefix: str, inputs: int, outputs: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Kernel (inputs, outputs) and bias of a dense layer."""
        kernel = self.take(f"{prefix}/kernel", (inputs, outputs))
        return kernel, self.take(f"{prefix}/bias", (kernel.shape[1],))

    def norm(self, prefix: str, width: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Scale and bias of a layer normalization; None where there is none."""
        if f"{prefix}/scale" not in self._arrays:
            return None
        return self.take(f"{prefix}/scale", (width,)), self.take(f"{prefix}/bias", (width,))

    def expect_all_used(self) -> None:
        """Raise DataError if arrays are left that nobody took."""
        surplus = sorted(set(self._arrays) - self._used)
        if surplus:
            raise DataError("arrays", f"only {sorted(self._used)}", f"also {surplus[:5]}")
