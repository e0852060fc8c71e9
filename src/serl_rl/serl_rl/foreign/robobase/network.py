# SPDX-License-Identifier: Apache-2.0
"""The network of RoboBase's DrQ-v2 as named tensors: which there are, and what they say about its architecture.

Actor and critics have a bottleneck of their own for the pictures and one for the state; there is no common trunk, and
no layer normalization but in the bottlenecks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import check_shapes

Tensors = Mapping[str, NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]

COLOURS: Final = 3
STRIDE: Final = 2
"""Stride of the convolutions that shrink the picture, which come first; the others have 1."""
MAX_PARAMETERS: Final = 2**27
MAX_SIDE: Final = 1024
"""Largest side of a picture [pixels]."""

_STATE = "actor_model.input_preprocess_modules.low_dim_obs.0.weight"
_NO_PICTURES: Final[Mapping[str, Any]] = {"shrinking": 0, "others": 0, "channels": 0, "kernel": 0}
_FIRST = re.compile(r"encoder\.convs_per_cam\.(\d+)\.0\.weight")
_CRITIC = re.compile(r"critic\.qs\.(\d+)\..*")


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network.

    cameras: names of the pictures, in the order of the network; empty: it looks at the state alone
    picture: height and width [pixels]; 0 and 0 without cameras
    frame_stack: moments that it looks at, oldest first, of pictures and of the state
    state: values of a moment; 0: it does not look at any
    actions: values of an action
    shrinking, others: how many convolutions of each picture halve it, and how many follow
    channels, kernel: of every convolution
    bottleneck: width of each bottleneck
    hidden: widths of the hidden layers of actor and critics
    critics: how many
    atoms: outputs of each critic; 1: the value itself
    """

    cameras: tuple[str, ...]
    picture: tuple[int, int]
    frame_stack: int
    state: int
    actions: int
    shrinking: int
    others: int
    channels: int
    kernel: int
    bottleneck: int
    hidden: tuple[int, ...]
    critics: int
    atoms: int

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the feature maps."""
        height, width = (_shrunk(side, self.kernel, self.shrinking, self.others) for side in self.picture)
        return height, width

    @property
    def shapes(self) -> Shapes:
        """Shape of each tensor by its name, of the encoder, the actor, the critics and the target critics."""
        shapes: Shapes = {}
        for camera in range(len(self.cameras)):
            inputs = COLOURS * self.frame_stack
            for layer in range(self.shrinking + self.others):
                name = f"encoder.convs_per_cam.{camera}.{3 * layer}"
                shapes[f"{name}.weight"] = (self.channels, inputs, self.kernel, self.kernel)
                shapes[f"{name}.bias"] = (self.channels,)
                inputs = self.channels
        shapes |= self._head("actor_model", 0, self.actions)
        for critic in range(self.critics):
            for prefix in ("critic", "critic_target"):
                shapes |= self._head(f"{prefix}.qs.{critic}", self.actions, self.atoms)
        return shapes

    def _head(self, prefix: str, actions: int, outputs: int) -> Shapes:
        bottlenecks = {}
        if self.cameras:
            height, width = self.map_size
            bottlenecks["fused_view_feats"] = len(self.cameras) * self.channels * height * width
        if self.state:
            bottlenecks["low_dim_obs"] = self.frame_stack * self.state
        shapes: Shapes = {}
        for name, inputs in bottlenecks.items():
            inner = f"{prefix}.input_preprocess_modules.{name}"
            shapes |= _linear(f"{inner}.0", inputs, self.bottleneck)
            shapes |= {f"{inner}.1.weight": (self.bottleneck,), f"{inner}.1.bias": (self.bottleneck,)}
        inputs = self.bottleneck * len(bottlenecks) + actions
        for layer, size in enumerate(self.hidden):
            shapes |= _linear(f"{prefix}.main_mlp.{3 * layer}", inputs, size)
            inputs = size
        return shapes | _linear(f"{prefix}.out_mlp.0", inputs, outputs)


@dataclass(frozen=True)
class Hints:
    """What the tensors do not say, as the settings beside them do; None: they do not, and it is guessed.

    Of a picture an even side is guessed, and one convolution that halves it.
    """

    cameras: tuple[str, ...] | None = None
    picture: tuple[int, int] | None = None
    frame_stack: int | None = None
    shrinking: int | None = None


@dataclass(frozen=True)
class DrQv2Network:
    """A network as data: `tensors` are those that its architecture says, float32 and finite."""

    architecture: Architecture
    tensors: Tensors


def read_network(source: Path, tensors: Mapping[str, Any], hints: Hints) -> DrQv2Network:
    """The network that named tensors make.

    Args:
        source: where they are from, for errors.
        tensors: arrays, with the names of RoboBase or of the LeRobot fork. What neither uses to act or to learn is
            left out: copies of the actor, states of recurrent layers that are not there, a temperature.
        hints: what is known beside.

    Raises:
        ForeignError: a tensor is missing, of another shape, of another kind of network, or not finite.
    """
    kept = _kept(source, tensors)
    architecture = _architecture(source, kept, hints)
    count = sum(int(np.prod(shape)) for shape in architecture.shapes.values())
    if count > MAX_PARAMETERS:
        raise ForeignError(source, f"a network of at most {MAX_PARAMETERS} parameters", str(count))
    check_shapes(source, kept, architecture.shapes)
    return DrQv2Network(architecture, kept)


def _kept(source: Path, tensors: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    kept: dict[str, NDArray[np.float32]] = {}
    for full_name, values in tensors.items():
        name = full_name.replace("._orig_mod.", ".").removeprefix("actor." if "actor_model." in full_name else "")
        if name.endswith("hidden_state") or name == "log_alpha" or name.startswith("critic_ensemble."):
            continue
        if not isinstance(values, np.ndarray):
            raise ForeignError(source, f"a tensor {full_name!r:.120}", type(values).__name__)
        if values.dtype != np.float32:
            raise ForeignError(source, f"{full_name!r:.120} of float32", str(values.dtype))
        if not np.isfinite(values).all():
            raise ForeignError(source, f"finite numbers in {full_name!r:.120}", "infinite ones or NaN")
        if name in kept and not np.array_equal(kept[name], values):
            raise ForeignError(source, f"one tensor {name!r:.120}", "two that differ, of the actor and of its copy")
        kept[name] = values
    return kept


def _architecture(source: Path, tensors: Tensors, hints: Hints) -> Architecture:
    if unknown := next((name for name in tensors if "rnn" in name or "time_obs" in name), ""):
        raise ForeignError(source, "a network without recurrent layers and time", f"{unknown!r:.120}")
    views = sorted(int(found[1]) for name in tensors if (found := _FIRST.fullmatch(name)))
    if not views and _STATE in tensors and not any(name.startswith("encoder.") for name in tensors):
        return _of_vectors(source, tensors, hints)
    if not views or views != list(range(len(views))):
        raise ForeignError(source, "a tensor 'encoder.convs_per_cam.0.0.weight'", f"convolutions of cameras {views}")
    channels, inputs, kernel, _ = _shape(source, tensors, "encoder.convs_per_cam.0.0.weight", 4)
    frame_stack = hints.frame_stack or max(inputs // COLOURS, 1)
    convolutions = _count(tensors, "encoder.convs_per_cam.0.")
    shrinking = 1 if hints.shrinking is None else hints.shrinking
    if not 0 <= shrinking <= convolutions:
        raise ForeignError(source, f"at most {convolutions} convolutions that halve a picture", str(shrinking))
    fused = "actor_model.input_preprocess_modules.fused_view_feats.0.weight"
    bottleneck, flat = _shape(source, tensors, fused, 2)
    cameras = hints.cameras or tuple(f"rgb_{view}" for view in views)
    if len(cameras) != len(views):
        raise ForeignError(source, f"names of {len(views)} cameras", ", ".join(cameras) or "none")
    side = hints.picture or _guessed_picture(source, flat, len(views) * channels, kernel, shrinking, convolutions)
    return Architecture(
        cameras=cameras,
        picture=side,
        frame_stack=frame_stack,
        shrinking=shrinking,
        others=convolutions - shrinking,
        channels=channels,
        kernel=kernel,
        bottleneck=bottleneck,
        **_heads(source, tensors, frame_stack),
    )


def _of_vectors(source: Path, tensors: Tensors, hints: Hints) -> Architecture:
    if hints.cameras:
        raise ForeignError(source, f"convolutions of cameras {', '.join(hints.cameras)}", "none")
    frame_stack = hints.frame_stack or 1
    bottleneck, _ = _shape(source, tensors, _STATE, 2)
    return Architecture(
        (), (0, 0), frame_stack, **_heads(source, tensors, frame_stack), **_NO_PICTURES, bottleneck=bottleneck
    )


def _heads(source: Path, tensors: Tensors, frame_stack: int) -> dict[str, Any]:
    """What the actor and the critics say of their sizes."""
    state_width = _shape(source, tensors, _STATE, 2)[1] if _STATE in tensors else 0
    if state_width % frame_stack:
        expected = f"{_STATE} with a multiple of {frame_stack} columns, the frame_stack"
        raise ForeignError(source, expected, f"{state_width} columns")
    layers = range(_count(tensors, "actor_model.main_mlp."))
    critics = len({found[1] for name in tensors if (found := _CRITIC.fullmatch(name))})
    return {
        "state": state_width // frame_stack,
        "actions": _shape(source, tensors, "actor_model.out_mlp.0.weight", 2)[0],
        "hidden": tuple(_shape(source, tensors, f"actor_model.main_mlp.{3 * each}.weight", 2)[0] for each in layers),
        "critics": critics,
        "atoms": _shape(source, tensors, "critic.qs.0.out_mlp.0.weight", 2)[0] if critics else 1,
    }


def _guessed_picture(
    source: Path, flat: int, maps: int, kernel: int, shrinking: int, convolutions: int
) -> tuple[int, int]:
    for side in range(2, MAX_SIDE + 1, 2):
        if maps * _shrunk(side, kernel, shrinking, convolutions - shrinking) ** 2 == flat:
            return side, side
    raise ForeignError(source, "features of square pictures of all cameras, side by side", f"{flat} of them")


def _shrunk(side: int, kernel: int, shrinking: int, others: int) -> int:
    for _ in range(shrinking):
        side = (side - kernel) // STRIDE + 1
    return max(side - others * (kernel - 1), 0)


def _count(tensors: Tensors, prefix: str) -> int:
    count = 0
    while f"{prefix}{3 * count}.weight" in tensors:
        count += 1
    return count


def _shape(source: Path, tensors: Tensors, name: str, axes: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ForeignError(source, f"a tensor {name!r}", f"{len(tensors)} tensors without it")
    shape = tensors[name].shape
    if len(shape) != axes or min(shape) < 1:
        raise ForeignError(source, f"{name} of {axes} axes", f"shape {shape}")
    return shape


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
