# SPDX-License-Identifier: Apache-2.0
"""Acts by a SAC policy of LeRobot's HIL-SERL, in numpy: cameras, state, Gaussian actor and discrete gripper."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.directories import MODEL
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_tensors
from serl_rl.foreign.layers import Array, LayerNorm, Linear, relu, spatial_embeddings
from serl_rl.foreign.lerobot_sac.config import (
    ENVIRONMENT,
    IMAGE,
    RESNET10,
    STATE,
    expect_options,
    find_directory,
    input_shapes,
)
from serl_rl.foreign.tensors import Mlp, TorchTensors
from serl_rl.spec import DataError

_SMALL: Final = ((7, 2), (5, 2), (3, 2), (3, 2))
"""Kernel and stride of each convolution of the small network."""
_ONLY: Final[Mapping[str, tuple[Any, ...]]] = {
    "vision_encoder_name": (None, RESNET10),
    "actor_network_kwargs.activate_final": (True,),
    "critic_network_kwargs.activate_final": (True,),
    "critic_network_kwargs.final_activation": (None,),
    "discrete_critic_network_kwargs.activate_final": (True,),
    "discrete_critic_network_kwargs.final_activation": (None,),
    "shared_encoder": (True, False),
}
"""Options that change the network, and their values that are understood."""
_ALIASES: Final = (
    "discrete_critic_target.encoder.",
    "discrete_critic.encoder.",
    "critic_target.encoder.",
    "critic_ensemble.encoder.",
    "encoder_critic.",
    "encoder_actor.",
    "actor.encoder.",
)
"""Names of encoders. Of those that are one and the same a file has one name, of the actor's if both share it."""


class SacPolicy:
    """The policy of a directory: the mean of the actor, and the gripper's best choice.

    Attributes:
        inputs: (H, W, 3) of each camera's uint8 RGB picture, and (k,) of each vector, by LeRobot's names.
        outputs: number of values of an action: each in [-1, 1], and a last one of 0 (close), 1 (stay) or 2 (open) if
            there is a discrete critic.
        critics: how many there are.
        source: the file of its tensors.
        config: of its directory.
        raw: all tensors of the file, by their names without what `torch.compile` adds.
        statistics: those within the file.
    """

    def __init__(self, path: Path) -> None:
        """Read a directory.

        Raises:
            ForeignError: a file or tensor is missing, does not fit the settings, or an option is not understood.
        """
        folder, config = find_directory(path, "sac")
        expect_options(folder, config, _ONLY)
        self.inputs = input_shapes(folder, config)
        raw = {name.replace("._orig_mod", ""): values for name, values in read_tensors(folder / MODEL).items()}
        buffers = {name: values for name, values in raw.items() if _BUFFER.fullmatch(name)}
        ignored = ("log_alpha", *buffers)
        kept = {name: values for name, values in raw.items() if name not in ignored and "_target." not in name}
        tensors = TorchTensors(folder / MODEL, kept)
        self.source, self.config, self.raw = folder / MODEL, config, raw
        self.statistics = Statistics(folder / MODEL, buffers)
        self._normalize = {name: _normalization(self.statistics, name, shape) for name, shape in self.inputs.items()}
        resnet = config.get("vision_encoder_name") == RESNET10
        self._eyes = _Encoder(tensors, encoder_prefix(tensors, "actor.encoder."), self.inputs, resnet)
        self._network = tensors.mlp("actor.network.net", self._eyes.width)
        self._mean = tensors.linear("actor.mean_layer", self._network.width)
        actions = len(self._mean.bias)
        self._unnormalize = _unnormalization(self.statistics, actions)
        if "actor.std_layer.weight" in tensors:
            tensors.linear("actor.std_layer", self._network.width, actions)
        others = self._eyes
        if config.get("shared_encoder") is False:
            others = _Encoder(tensors, encoder_prefix(tensors, "discrete_critic.encoder."), self.inputs, resnet)
        self._critic_eyes = others
        self._critics: list[tuple[Mlp, Linear]] = []
        while tensors.any_below(prefix := f"critic_ensemble.critics.{len(self._critics)}."):
            network = tensors.mlp(f"{prefix}net.net", others.width + actions)
            self._critics.append((network, tensors.linear(f"{prefix}output_layer", network.width, 1)))
        self.critics = len(self._critics)
        self._gripper: tuple[Callable[[Array], Array], Linear] | None = None
        if (choices := config.get("num_discrete_actions")) is not None:
            values = tensors.mlp("discrete_critic.net.net", others.width)
            self._gripper = values, tensors.linear("discrete_critic.output_layer", values.width, choices)
        self.outputs = actions + (self._gripper is not None)
        tensors.expect_all_taken()

    @property
    def planned(self) -> int:
        """None: it looks at every step."""
        return 0

    def reset(self) -> None:
        """It remembers nothing."""

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> Array:
        """The best action (outputs,) for one observation.

        Raises:
            DataError: an input is missing, or of another shape or dtype.
        """
        seen = self._seen(inputs)
        action = np.tanh(self._mean(self._network(self._eyes(seen))))
        if self._unnormalize:
            action = self._unnormalize(action)
        if self._gripper is None:
            return action
        network, last = self._gripper
        choice = np.argmax(last(network(self._critic_eyes(seen))))
        return np.append(action, np.float32(choice)).astype(np.float32)

    def values(self, inputs: Mapping[str, NDArray[Any]], action: Array) -> Array:
        """Values (critics,) of an action of the arm, without the gripper's choice."""
        x = np.concatenate([self._critic_eyes(self._seen(inputs)), action])
        return np.concatenate([last(network(x)) for network, last in self._critics])

    def _seen(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
        seen = {}
        for name, shape in self.inputs.items():
            dtype = np.uint8 if len(shape) == 3 else np.float32
            found = inputs.get(name)
            if found is None or found.shape != shape or found.dtype != dtype:
                what = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise DataError(name, f"{np.dtype(dtype)} {shape}", what)
            x = found.astype(np.float32)
            seen[name] = self._normalize[name](x / np.float32(255.0) if len(shape) == 3 else x)
        return seen


def open_policy(path: Path) -> SacPolicy:
    """The policy of a directory that LeRobot's learner wrote; raises ForeignError as `SacPolicy`."""
    return SacPolicy(path)


class _Encoder:
    """The vector of an observation: of each camera, of the environment's state and of the robot's."""

    def __init__(self, tensors: TorchTensors, prefix: str, inputs: Mapping[str, tuple[int, ...]], resnet: bool) -> None:
        self._heads: dict[str, tuple[Array, Linear, LayerNorm]] = {}
        cameras = [name for name in inputs if name.startswith(IMAGE)]
        least = 1 if resnet else _least_side()
        if small := [name for name in cameras if min(inputs[name][:2]) < least]:
            raise ForeignError(tensors.source, f"pictures of {least} pixels and more", f"{small[0]} {inputs[small[0]]}")
        self._backbone = _backbone(tensors, f"{prefix}image_encoder.image_enc_layers.", resnet) if cameras else None
        self.width = 0
        for name in cameras:
            key = name.replace(".", "_")
            kernel = tensors.take(f"{prefix}spatial_embeddings.{key}.kernel", (None, None, None, None))
            sizes = self._backbone(np.zeros(inputs[name], np.float32)).shape if self._backbone else ()
            channels, height, width, weightings = kernel.shape
            if (height, width, channels) != sizes:
                tensors.take(f"{prefix}spatial_embeddings.{key}.kernel", (sizes[2], *sizes[:2], None))
            linear = tensors.linear(f"{prefix}post_encoders.{key}.1", channels * weightings)
            norm = tensors.norm(f"{prefix}post_encoders.{key}.2", len(linear.bias))
            self._heads[name] = (np.ascontiguousarray(kernel.transpose(1, 2, 0, 3)), linear, norm)
            self.width += len(linear.bias)
        self._vectors: dict[str, tuple[Linear, LayerNorm]] = {}
        for name, module in ((ENVIRONMENT, "env_encoder"), (STATE, "state_encoder")):
            if name in inputs:
                linear = tensors.linear(f"{prefix}{module}.0", inputs[name][0])
                self._vectors[name] = linear, tensors.norm(f"{prefix}{module}.1", len(linear.bias))
                self.width += len(linear.bias)

    def __call__(self, seen: Mapping[str, Array]) -> Array:
        parts = []
        for name, (kernel, linear, norm) in self._heads.items():
            assert self._backbone is not None
            parts.append(np.tanh(norm(linear(spatial_embeddings(self._backbone(seen[name]), kernel)))))
        parts += [np.tanh(norm(linear(seen[name]))) for name, (linear, norm) in self._vectors.items()]
        return np.concatenate(parts)


def _backbone(tensors: TorchTensors, prefix: str, resnet: bool) -> Callable[[Array], Array]:
    if resnet:
        return tensors.resnet10(prefix)
    layers, channels = [], 3
    for index, (kernel, stride) in enumerate(_SMALL):
        layers.append(tensors.convolution(f"{prefix}{2 * index}", channels, kernel, stride))
        channels = layers[-1].kernel.shape[3]

    def small(x: Array) -> Array:
        for layer in layers:
            x = relu(layer(x))
        return x

    return small


def _least_side() -> int:
    """Side of the smallest picture of which the small network leaves something [pixels]."""
    side = 1
    for kernel, stride in reversed(_SMALL):
        side = (side - 1) * stride + kernel
    return side


def encoder_prefix(tensors: TorchTensors, wanted: str) -> str:
    """The name under which the file has an encoder; LeRobot keeps one of several names of the same."""
    shared = _ALIASES if wanted == "actor.encoder." else _ALIASES[:-2]
    return wanted if tensors.any_below(wanted) else next((name for name in shared if tensors.any_below(name)), wanted)


_BUFFER = re.compile(r"(?:.*\.)?(normalize_inputs|unnormalize_outputs|input_normalization)\.buffer_\w+\.(\w+)")


class Statistics:
    """The statistics within a model's file, as LeRobot 0.3 and before left them there."""

    def __init__(self, source: Path, buffers: Mapping[str, Array]) -> None:
        self._source, self._buffers = source, buffers

    def pair(self, owners: tuple[str, ...], name: str, size: int) -> tuple[str, Array, Array] | None:
        """Two statistics (size,) of a feature behind the name of the first, "mean" or "min"; None where there are none.

        Raises:
            ForeignError: there is only one of the two, or they are of another size.
        """
        found = {}
        for buffer, values in self._buffers.items():
            *_, owner, feature, statistic = buffer.split(".")
            if owner in owners and feature == f"buffer_{name.replace('.', '_')}":
                found[statistic] = values.ravel()
        if not found:
            return None
        for first, second in (("mean", "std"), ("min", "max")):
            if {first, second} <= found.keys():
                if {found[first].shape, found[second].shape} != {(size,)}:
                    sizes = f"{found[first].shape} and {found[second].shape}"
                    raise ForeignError(self._source, f"{first} and {second} of {name} of shape ({size},)", sizes)
                return first, found[first], found[second]
        raise ForeignError(self._source, f"mean and std of {name}, or min and max", ", ".join(sorted(found)))


def _normalization(statistics: Statistics, name: str, shape: tuple[int, ...]) -> Callable[[Array], Array]:
    """What LeRobot 0.3 and before did to an input, whose statistics lay within the model; later ones do nothing."""
    match statistics.pair(("normalize_inputs", "input_normalization"), name, shape[-1]):
        case "mean", mean, deviation:
            return lambda x: (x - mean) / (deviation + np.float32(1e-8))
        case _, low, high:
            return lambda x: np.float32(2.0) * (x - low) / (high - low + np.float32(1e-8)) - np.float32(1.0)
    return lambda x: x


def _unnormalization(statistics: Statistics, actions: int) -> Callable[[Array], Array] | None:
    match statistics.pair(("unnormalize_outputs",), "action", actions):
        case "mean", mean, deviation:
            return lambda x: x * deviation + mean
        case _, low, high:
            return lambda x: (x + np.float32(1.0)) / np.float32(2.0) * (high - low) + low
    return None
