# SPDX-License-Identifier: Apache-2.0
"""The policy as arrays: what a learner publishes and actors run. Imports no JAX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl import tensors
from serl_rl.spec import DataError, TransitionSpec

FORMAT = "serl-policy-1"
NORM_EPSILON = 1e-6

_ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True)
class PolicySnapshot:
    """Parameters of a policy and how they belong together.

    arrays: trunk/dense_I/{kernel,bias}, with normalized layers trunk/norm_I/{scale,bias}, and head/{kernel,bias}, which
        gives mean and log standard deviation; all float32
    observation: names and widths of the observation entries that are concatenated into the input
    activation: relu or tanh
    log_std_bounds: between which the log standard deviation is clipped
    """

    arrays: Mapping[str, NDArray[np.float32]]
    observation: Mapping[str, int]
    activation: str
    log_std_bounds: tuple[float, float]

    def to_bytes(self) -> bytes:
        """The snapshot as a safetensors file."""
        description = {
            "format": FORMAT,
            "observation": list(self.observation.items()),
            "activation": self.activation,
            "log_std_bounds": list(self.log_std_bounds),
        }
        return tensors.pack(self.arrays, {"policy": json.dumps(description)})

    @classmethod
    def from_bytes(cls, data: bytes) -> PolicySnapshot:
        """Inverse of `to_bytes`; raises DataError for anything else. `NumpyPolicy` checks that the arrays fit."""
        arrays, metadata = tensors.unpack(data)
        try:
            description = json.loads(metadata["policy"])
            found = description["format"]
            if found != FORMAT:
                raise DataError("policy", FORMAT, repr(found))
            low, high = map(float, description["log_std_bounds"])
            observation = {str(name): int(width) for name, width in description["observation"]}
            return cls(arrays, observation, str(description["activation"]), (low, high))
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError("policy", "a description of the policy", f"{metadata!r:.200} ({error})") from error

    def policy(self) -> NumpyPolicy:
        """The policy itself; raises DataError if the parts do not belong together."""
        return NumpyPolicy(self)


class NumpyPolicy:
    """A tanh-squashed Gaussian policy for one observation at a time, in numpy.

    Raises DataError if the arrays of the snapshot do not make an MLP for its observation.
    """

    def __init__(self, snapshot: PolicySnapshot) -> None:
        self._widths = dict(snapshot.observation)
        self._names = tuple(snapshot.observation)
        if snapshot.activation not in _ACTIVATIONS:
            raise DataError("activation", " or ".join(_ACTIVATIONS), repr(snapshot.activation))
        if not self._names:
            raise DataError("observation", "at least one entry", "none")
        arrays = _Arrays(snapshot.arrays)
        width = sum(snapshot.observation.values())
        self._layers: list[tuple[NDArray[Any], NDArray[Any], tuple[NDArray[Any], NDArray[Any]] | None]] = []
        while f"trunk/dense_{len(self._layers)}/kernel" in snapshot.arrays:
            prefix = f"trunk/dense_{len(self._layers)}"
            kernel, bias = arrays.dense(prefix, width)
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
        return cls(PolicySnapshot.from_bytes(data))

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless the policy is for observations and actions of `spec`."""
        widths = {name: spec.observation[name].elements for name in spec.vector_names}
        if widths != self._widths:
            raise DataError("observation", str(widths), str(self._widths))
        if self.action_dim != spec.action_dim:
            raise DataError("action_dim", str(spec.action_dim), str(self.action_dim))

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] for one observation: the squashed mean, or a sample drawn with `rng`."""
        mean, log_std = self.distribution(observation)
        if not deterministic:
            if rng is None:
                raise ValueError("rng: expected a generator for a sampled action, found None")
            mean += np.exp(log_std) * rng.standard_normal(self.action_dim, dtype=np.float32)
        return np.tanh(mean)

    def distribution(self, observation: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and log standard deviation, (A,) each, before the squashing."""
        x = np.concatenate([observation[name] for name in self._names])
        for kernel, bias, norm in self._layers:
            x = x @ kernel + bias
            if norm is not None:
                x -= x.mean()
                x *= np.float32(1.0) / np.sqrt(x @ x / np.float32(len(x)) + np.float32(NORM_EPSILON))
                x = x * norm[0] + norm[1]
            x = np.maximum(x, np.float32(0.0)) if self._relu else np.tanh(x)
        kernel, bias = self._head
        x = x @ kernel + bias
        return x[: self.action_dim], np.clip(x[self.action_dim :], *self._bounds)


class _Arrays:
    """Takes arrays by name and checks their shapes."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self._used: set[str] = set()

    def take(self, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
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

    def dense(self, prefix: str, inputs: int, outputs: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        kernel = self.take(f"{prefix}/kernel", (inputs, outputs))
        return kernel, self.take(f"{prefix}/bias", (kernel.shape[1],))

    def norm(self, prefix: str, width: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        if f"{prefix}/scale" not in self._arrays:
            return None
        return self.take(f"{prefix}/scale", (width,)), self.take(f"{prefix}/bias", (width,))

    def expect_all_used(self) -> None:
        surplus = sorted(set(self._arrays) - self._used)
        if surplus:
            raise DataError("arrays", f"only {sorted(self._used)}", f"also {surplus[:5]}")
