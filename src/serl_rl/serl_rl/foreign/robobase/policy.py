# SPDX-License-Identifier: Apache-2.0
"""Acts by a DrQ-v2 network of RoboBase, in numpy: one convolutional tower for each camera, no backend."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.layers import (
    TORCH_EPSILON,
    Convolution,
    LayerNorm,
    Linear,
    convolution_kernel,
    linear_kernel,
    relu,
)
from serl_rl.foreign.robobase.files import read_drqv2
from serl_rl.foreign.robobase.network import STRIDE, DrQv2Network, Tensors
from serl_rl.spec import DataError

STATE: Final = "low_dim_state"
"""Name of the vector that the policy takes, if it takes one."""

Vector = NDArray[np.float32]


class DrQv2Policy:
    """The deterministic policy of a network. It keeps the moments that it looks at; the first one fills them all.

    Attributes:
        inputs: (H, W, 3) of each camera's uint8 RGB picture, and (k,) of `STATE`, the values of this moment.
        outputs: number of values of an action, each in [-1, 1].
    """

    def __init__(self, network: DrQv2Network) -> None:
        self.network = network
        architecture = network.architecture
        self.inputs: dict[str, tuple[int, ...]] = {}
        self.inputs |= dict.fromkeys(architecture.cameras, (*architecture.picture, 3))
        if architecture.state:
            self.inputs[STATE] = (architecture.state,)
        self.outputs = architecture.actions
        self._towers = [_tower(network, view) for view in range(len(architecture.cameras))]
        self._head = _Head(network, "actor_model")
        self._moments: dict[str, deque[NDArray[Any]]] = {}

    @property
    def planned(self) -> int:
        """None: it looks at every step."""
        return 0

    def reset(self) -> None:
        """Forget earlier moments."""
        self._moments = {}

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> Vector:
        """The best action (outputs,) in [-1, 1] for what is seen at this moment.

        Raises:
            DataError: an input is missing, or of another shape or dtype.
        """
        for name, shape in self.inputs.items():
            dtype = np.float32 if name == STATE else np.uint8
            found = inputs.get(name)
            if found is None or found.shape != shape or found.dtype != dtype:
                what = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise DataError(name, f"{np.dtype(dtype)} {shape}", what)
            length = self.network.architecture.frame_stack
            moments = self._moments.setdefault(name, deque([found] * length, maxlen=length))
            moments.append(found.copy())
        return np.tanh(self._head(self._features(), self._state()))

    def value(self, action: Vector) -> Vector:
        """Values (critics,) of an action for what `act` saw last, before any transformation of distributional critics.

        Raises:
            DataError: nothing was seen, or the critics are distributional.
        """
        architecture = self.network.architecture
        if not self._moments or architecture.atoms != 1:
            raise DataError("value", "critics of one output, and an observation", f"{architecture.atoms} outputs")
        features, state = self._features(), self._state()
        critics = [_Head(self.network, f"critic.qs.{each}") for each in range(architecture.critics)]
        return np.concatenate([critic(features, state, action) for critic in critics])

    def _features(self) -> Vector | None:
        parts = []
        for name, tower in zip(self.network.architecture.cameras, self._towers, strict=True):
            x = np.concatenate(list(self._moments[name]), axis=-1).astype(np.float32) / np.float32(255.0)
            x = x - np.float32(0.5)
            for convolution in tower:
                x = relu(convolution(x))
            parts.append(x.transpose(2, 0, 1).ravel())
        return np.concatenate(parts) if parts else None

    def _state(self) -> Vector | None:
        return np.concatenate(list(self._moments[STATE])) if STATE in self.inputs else None


def open_policy(path: Path) -> DrQv2Policy:
    """The policy in a snapshot of RoboBase, in a folder of snapshots, or in a LeRobot-style directory.

    Raises:
        ForeignError: there is none that can be read.
    """
    return DrQv2Policy(read_drqv2(path).network)


class _Head:
    """Bottlenecks, hidden layers, and the last one."""

    def __init__(self, network: DrQv2Network, prefix: str) -> None:
        architecture, tensors = network.architecture, network.tensors
        inner = f"{prefix}.input_preprocess_modules"
        present = {"fused_view_feats": bool(architecture.cameras), "low_dim_obs": bool(architecture.state)}
        names = [name for name, there in present.items() if there]
        self._bottlenecks = [
            (
                _linear(tensors, f"{inner}.{name}.0"),
                LayerNorm(tensors[f"{inner}.{name}.1.weight"], tensors[f"{inner}.{name}.1.bias"], TORCH_EPSILON),
            )
            for name in names
        ]
        self._hidden = [_linear(tensors, f"{prefix}.main_mlp.{3 * layer}") for layer in range(len(architecture.hidden))]
        self._last = _linear(tensors, f"{prefix}.out_mlp.0")

    def __call__(self, features: Vector | None, state: Vector | None, action: Vector | None = None) -> Vector:
        seen = [each for each in (features, state) if each is not None]
        parts = [np.tanh(norm(linear(x))) for x, (linear, norm) in zip(seen, self._bottlenecks, strict=True)]
        x = np.concatenate(parts + ([action] if action is not None else []))
        for layer in self._hidden:
            x = relu(layer(x))
        return self._last(x)


def _linear(tensors: Tensors, name: str) -> Linear:
    return Linear(linear_kernel(tensors[f"{name}.weight"]), tensors[f"{name}.bias"])


def _tower(network: DrQv2Network, view: int) -> list[Convolution]:
    architecture = network.architecture
    layers = []
    for layer in range(architecture.shrinking + architecture.others):
        name = f"encoder.convs_per_cam.{view}.{3 * layer}"
        kernel = convolution_kernel(network.tensors[f"{name}.weight"])
        stride = STRIDE if layer < architecture.shrinking else 1
        layers.append(Convolution(kernel, network.tensors[f"{name}.bias"], stride))
    return layers
