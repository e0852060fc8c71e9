# SPDX-License-Identifier: Apache-2.0
"""Acts by a policy of SERL or HIL-SERL, in numpy: cameras through a ResNet-10, state, Gaussian actor, grasp critic.

One of states alone has no encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.directories import CONFIG, MODEL, check_new, pack_model, write_directory
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_json_object, read_tensors
from serl_rl.foreign.layers import FLAX_EPSILON, Array, LayerNorm, Linear, spatial_embeddings
from serl_rl.foreign.resnet10 import SHAPES, ResNet10, normalized
from serl_rl.foreign.serl.checkpoint import read_parameters
from serl_rl.policy.network import PolicyArrays
from serl_rl.spec import DataError

TYPE: Final = "serl"
STATE: Final = "state"

_ENCODER: Final = "modules_actor/encoder"
_REDUCTION: Final = 32
"""How much smaller than the picture a feature map is."""
_GRASPS: Final = 3
_UNUSED: Final = "modules_temperature/"

LOG_DEVIATIONS: Final = (float(np.log(1e-5)), float(np.log(5.0)))
"""Logarithms of the smallest and largest standard deviation by which an actor of SERL explores."""


class SerlPolicy:
    """The deterministic policy of a checkpoint.

    Attributes:
        inputs: (H, W, 3) of each camera's uint8 RGB picture, in the order of the network, and (k,) of `STATE`, which a
            network without an encoder takes as it is.
        outputs: number of values of an action in [-1, 1]; with a grasp critic the last one is -1 (close), 0 (stay) or
            1 (open).
        parameters: by their paths, as in the checkpoint.
    """

    def __init__(self, source: Path, parameters: Mapping[str, NDArray[Any]], cameras: Sequence[str] = ()) -> None:
        """Make the networks of parameters.

        Args:
            source: where they are from, for errors.
            parameters: by their paths.
            cameras: in the order of the run's `image_keys`; may be left out of one or two, whose order shows.

        Raises:
            ForeignError: parameters are missing, of another shape, not finite, or left over.
        """
        if empty := next((name for name, values in parameters.items() if not values.size), None):
            raise ForeignError(source, f"numbers in {empty}", f"shape {parameters[empty].shape}")
        self.parameters = parameters
        self._arrays = PolicyArrays(parameters)
        self.inputs: Mapping[str, tuple[int, ...]] = {}
        try:
            self._take(_order(parameters, cameras))
        except DataError as error:
            raise ForeignError(source, f"{error.field}: {error.expected}", error.found) from error

    @property
    def planned(self) -> int:
        """None: it looks at every step."""
        return 0

    @property
    def cameras(self) -> list[str]:
        """Names of its cameras, in the order of the network."""
        return list(self._heads)

    def reset(self) -> None:
        """It remembers nothing."""

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> Array:
        """The best action (outputs,) for one observation.

        Raises:
            DataError: an input is missing, or of another shape or dtype.
        """
        x = self._encoded(inputs)
        return self._with_grasp(np.tanh(self._mean(_run(self._actor, x))), x)

    def _with_grasp(self, action: Array, x: Array) -> Array:
        if self._grasps is None:
            return action
        (first, norm), second, last = self._grasps
        grasp = np.argmax(last(second(np.tanh(norm(first(x))))))
        return np.append(action, np.float32(grasp) - np.float32(1.0)).astype(np.float32)

    def sample(self, inputs: Mapping[str, NDArray[Any]], rng: np.random.Generator) -> Array:
        """An action (outputs,) that explores, for one observation; a grasp critic's part of it is the best one.

        Raises:
            DataError: an input is missing, or of another shape or dtype, or the policy has no deviation.
        """
        if self._deviation is None:
            raise DataError("modules_actor/Dense_1", "a deviation, by which the policy explores", "nothing")
        x = self._encoded(inputs)
        hidden = _run(self._actor, x)
        deviation = np.exp(np.clip(self._deviation(hidden), *LOG_DEVIATIONS))
        action = np.tanh(self._mean(hidden) + deviation * rng.standard_normal(len(deviation), dtype=np.float32))
        return self._with_grasp(action, x)

    def values(self, inputs: Mapping[str, NDArray[Any]], action: Array) -> Array:
        """Values (critics,) of an action, without the grasp where that has a critic of its own."""
        x = np.concatenate([self._encoded(inputs), action])
        return np.concatenate([self._value(_run(layers, x)) for layers in self._critics])

    def _take(self, cameras: Sequence[str]) -> None:
        arrays = self._arrays
        inputs: dict[str, tuple[int, ...]] = {}
        self._heads: dict[str, tuple[Array, Linear, LayerNorm]] = {}
        width = 0
        for index, name in enumerate(cameras):
            prefix = f"{_ENCODER}/encoder_{name}"
            if index == 0:
                backbone = f"{prefix}/pretrained_encoder"
                self._backbone = ResNet10({each: arrays.take(f"{backbone}/{each}", s) for each, s in SHAPES.items()})
            kernel = arrays.take(f"{prefix}/SpatialLearnedEmbeddings_0/kernel", (None, None, 512, None))
            height, wide, channels, weightings = kernel.shape
            linear, norm = self._layer(prefix, 0, channels * weightings)
            self._heads[name] = kernel, linear, norm
            inputs[name] = (height * _REDUCTION, wide * _REDUCTION, 3)
            width += len(linear.bias)
        self._state: tuple[Linear, LayerNorm] | None = None
        if not any(name.startswith(f"{_ENCODER}/") for name in self.parameters):
            width = arrays.take("modules_actor/network/Dense_0/kernel", (None, None)).shape[0]
            inputs[STATE] = (width,)
        elif f"{_ENCODER}/Dense_0/kernel" in arrays:
            self._state = self._layer(_ENCODER, 0, None)
            inputs[STATE] = (self._state[0].kernel.shape[0],)
            width += len(self._state[0].bias)
        self.inputs = inputs
        self._actor = self._layers("modules_actor/network", width)
        hidden = len(self._actor[-1][0].bias)
        self._mean = Linear(*arrays.dense("modules_actor/Dense_0", hidden))
        actions = len(self._mean.bias)
        self._deviation: Linear | None = None
        if "modules_actor/Dense_1/kernel" in arrays:
            self._deviation = Linear(*arrays.dense("modules_actor/Dense_1", hidden, actions))
        self._take_critics(width + actions)
        self._grasps: tuple[tuple[Linear, LayerNorm], Linear, Linear] | None = None
        if "modules_grasp_critic/Dense_0/kernel" in arrays:
            first = self._layer("modules_grasp_critic/network", 0, width)
            second = Linear(*arrays.dense("modules_grasp_critic/network/Dense_1", len(first[0].bias)))
            last = Linear(*arrays.dense("modules_grasp_critic/Dense_0", len(second.bias), _GRASPS))
            self._grasps = first, second, last
        self.outputs = actions + (self._grasps is not None)
        arrays.pass_over(_UNUSED.removesuffix("/"))
        arrays.expect_all_used()

    def _take_critics(self, inputs: int) -> None:
        arrays, prefix = self._arrays, "modules_critic/network"
        if f"{prefix}/VmapMLP_0/Dense_0/kernel" in arrays:
            prefix = f"{prefix}/VmapMLP_0"
        critics = arrays.take(f"{prefix}/Dense_0/kernel", (None, inputs, None)).shape[0]
        self._critics: list[list[tuple[Linear, LayerNorm]]] = [[] for _ in range(critics)]
        index = 0
        while not index or f"{prefix}/Dense_{index}/kernel" in arrays:
            kernel = arrays.take(f"{prefix}/Dense_{index}/kernel", (critics, inputs, None))
            inputs = kernel.shape[2]
            bias, scale, shift = (
                arrays.take(f"{prefix}/{name}", (critics, inputs))
                for name in (f"Dense_{index}/bias", f"LayerNorm_{index}/scale", f"LayerNorm_{index}/bias")
            )
            for each in range(critics):
                norm = LayerNorm(scale[each], shift[each], FLAX_EPSILON)
                self._critics[each].append((Linear(kernel[each], bias[each]), norm))
            index += 1
        self._value = Linear(*arrays.dense("modules_critic/Dense_0", inputs, 1))

    def _layers(self, prefix: str, inputs: int) -> list[tuple[Linear, LayerNorm]]:
        layers: list[tuple[Linear, LayerNorm]] = []
        while not layers or f"{prefix}/Dense_{len(layers)}/kernel" in self._arrays:
            layers.append(self._layer(prefix, len(layers), inputs))
            inputs = len(layers[-1][0].bias)
        return layers

    def _layer(self, prefix: str, index: int, inputs: int | None) -> tuple[Linear, LayerNorm]:
        kernel = self._arrays.take(f"{prefix}/Dense_{index}/kernel", (inputs, None))
        width = kernel.shape[1]
        bias, scale, shift = (
            self._arrays.take(f"{prefix}/{name}", (width,))
            for name in (f"Dense_{index}/bias", f"LayerNorm_{index}/scale", f"LayerNorm_{index}/bias")
        )
        return Linear(kernel, bias), LayerNorm(scale, shift, FLAX_EPSILON)

    def _encoded(self, inputs: Mapping[str, NDArray[Any]]) -> Array:
        parts = []
        for name, shape in self.inputs.items():
            dtype = np.uint8 if len(shape) == 3 else np.float32
            found = inputs.get(name)
            if found is None or found.shape != shape or found.dtype != dtype:
                what = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise DataError(name, f"{np.dtype(dtype)} {shape}", what)
            if name in self._heads:
                kernel, linear, norm = self._heads[name]
                x = spatial_embeddings(self._backbone(normalized(found)), kernel)
            elif self._state is not None:
                x, (linear, norm) = found, self._state
            else:
                parts.append(found)
                continue
            parts.append(np.tanh(norm(linear(x))))
        return np.concatenate(parts)


def open_policy(path: Path) -> SerlPolicy:
    """The policy of a checkpoint of SERL or HIL-SERL, or of a directory that `write_serl` made.

    Raises:
        ForeignError: there is none that can be read.
    """
    if (path / CONFIG).exists():
        config = read_json_object(path / CONFIG)
        cameras = config.get("image_keys")
        if config.get("type") != TYPE or not isinstance(cameras, list) or not all(isinstance(c, str) for c in cameras):
            raise ForeignError(path / CONFIG, f'"type": "{TYPE}" and a list image_keys', f"{config!r:.80}")
        return SerlPolicy(path, read_tensors(path / MODEL), cameras)
    return SerlPolicy(path, read_parameters(path))


def write_serl(path: Path, policy: SerlPolicy) -> None:
    """Write a policy as a new directory of `config.json` and `model.safetensors`, whole or not at all.

    Raises:
        ForeignError: there is something at the path already.
        OSError: it cannot be written.
    """
    check_new(path)
    config = {"type": TYPE, "image_keys": policy.cameras}
    write_directory(path, {CONFIG: json.dumps(config, indent=2).encode(), MODEL: pack_model(policy.parameters)})


def _order(parameters: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """The cameras in the order of the network: the first one has the backbone, which the others use."""
    prefix, after = f"{_ENCODER}/encoder_", "/pretrained_encoder/"
    first = sorted({n[len(prefix) :].split("/")[0] for n in parameters if n.startswith(prefix) and after in n})
    found = sorted({name[len(prefix) :].split("/")[0] for name in parameters if name.startswith(prefix)})
    if found and len(first) != 1:
        raise DataError("pretrained_encoder", "of one camera, which the others share", ", ".join(first) or "none")
    order = list(given) or [*first, *(name for name in found if name not in first)]
    if sorted(order) != found or order[:1] != first:
        raise DataError("image_keys", f"{', '.join(found)}, first {first[0] if first else 'none'}", ", ".join(order))
    if not given and len(found) > 2:
        raise DataError("image_keys", "the order of the run's image_keys, since a checkpoint does not have it", "none")
    return order


def _run(layers: list[tuple[Linear, LayerNorm]], x: Array) -> Array:
    for linear, norm in layers:
        x = np.tanh(norm(linear(x)))
    return x
