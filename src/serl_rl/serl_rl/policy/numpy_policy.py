# SPDX-License-Identifier: Apache-2.0
"""Acting with a policy, one observation at a time, in numpy; a backend encodes pictures, where there are any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.architecture import PICTURE_CHANNELS
from serl_rl.policy.acting import Acting, Observation, OneActor, PerArm, Proposals, make_acting
from serl_rl.policy.arms import check_components
from serl_rl.policy.network import CameraHead, Network, PolicyArrays
from serl_rl.policy.snapshot import ARMS, CRITICS, ENCODER, EXPLORING, FrameInput, PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec, kind_of

Cameras = Mapping[str, CameraHead]
Encode = Callable[[Cameras, Observation], NDArray[np.float32]]


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
        frames = snapshot.frames
        if (frames is not None and frames.pictures) != (pictures is not None):
            raise DataError("frames", "pictures" if pictures else "features", "features" if pictures else "pictures")
        self._frames, self._pictures, self._meaning = frames, pictures, snapshot.meaning
        self._widths = dict(snapshot.observation)
        shapes = {} if frames is None else {name: self._feature_shape(frames, name) for name in frames.shapes}
        if not self._widths and not shapes:
            raise DataError("observation", "at least one entry", "none")
        best, exploring = _split(snapshot.arrays)
        self._best = _networks(snapshot, best, shapes, self._widths)
        self._exploring = self._best
        if exploring:
            self._exploring = _networks(snapshot, {**best, **exploring}, shapes, self._widths)
        if (found := self._exploring.action_dim) != self.action_dim:
            raise DataError(EXPLORING, f"actions of {self.action_dim} values, as the best ones have", str(found))

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
        return self._best.action_dim

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
        self._best.check(spec)
        if self._meaning and spec.meaning and self._meaning != spec.meaning:
            difference = spec.difference(replace(spec, meaning=self._meaning))
            raise DataError("policy", "one of the same task", f"another: {difference}")

    @property
    def planned(self) -> int:
        """Actions that it will execute before it looks again; `reset` makes it look at once."""
        return max(self._best.planned, self._exploring.planned)

    def reset(self) -> None:
        """Begin an episode, or go on after somebody else has moved the arm: forget what was planned."""
        self._best.reset()
        self._exploring.reset()

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] for one observation: the best one, or one that explores, drawn with `rng`.

        Of features (K, h, w, c) it looks at view 0, the picture that was not shifted; a stack of S > 1 frames comes as
        (h, w, S * c). Raises ValueError where `rng` is missing.
        """
        if not deterministic and rng is None:
            raise ValueError("rng: expected a generator for a sampled action, found None")
        networks = self._best if deterministic else self._exploring
        return networks.act(observation, self._encode, None if deterministic else rng)

    def _encode(self, cameras: Cameras, observation: Observation) -> NDArray[np.float32]:
        """The vector (D,) that networks take: what is seen, camera by camera, then the entries that are vectors."""
        parts = [camera(self._features(name, observation[name])) for name, camera in cameras.items()]
        return np.concatenate([*parts, *(observation[name] for name in self._widths)])

    def _features(self, name: str, frame: NDArray[Any]) -> NDArray[np.float32]:
        """Feature map (h, w, c) of the frame of one camera."""
        if self._pictures is not None:
            return self._pictures(frame)
        has_views = kind_of(frame.shape, frame.dtype) == "features"  # a stack of frames has none
        return (frame[0] if has_views else frame).astype(np.float32)


class _Networks:
    """What looks and what chooses actions, for the best ones or for ones that explore."""

    def __init__(
        self,
        snapshot: PolicySnapshot,
        actor: OneActor,
        named: Mapping[str, NDArray[Any]],
        shapes: Mapping[str, tuple[int, int, int]],
        widths: Mapping[str, int],
    ) -> None:
        arrays = PolicyArrays(named)
        if snapshot.frames is not None and snapshot.frames.pictures:
            arrays.pass_over(ENCODER)
        pooling = snapshot.frames.pooling if snapshot.frames else "average"
        self._cameras = {name: CameraHead(arrays, name, shape, pooling) for name, shape in shapes.items()}
        self._critics_cameras: Cameras = {}
        if isinstance(actor, Proposals):
            self._critics_cameras = {
                name: CameraHead(arrays, name, shape, pooling, f"{CRITICS}/") for name, shape in shapes.items()
            }

        def width(cameras: Cameras) -> int:
            return sum(camera.width for camera in cameras.values()) + sum(widths.values())

        def network(prefix: str, outputs: int | None) -> Network:
            return Network(arrays, prefix, width(self._cameras), snapshot.activation, outputs)

        def critic(number: int, action_dim: int) -> Network:
            inputs = width(self._critics_cameras) + action_dim
            return Network(arrays, f"{CRITICS}/{number}/", inputs, snapshot.activation, 1)

        self._acting: Acting = make_acting(actor, network, critic)
        arrays.expect_all_used()

    @property
    def action_dim(self) -> int:
        return self._acting.action_dim

    @property
    def planned(self) -> int:
        return self._acting.planned

    def reset(self) -> None:
        self._acting.reset()

    def check(self, spec: TransitionSpec) -> None:
        self._acting.planner.check(spec)

    def act(self, observation: Observation, encode: Encode, rng: np.random.Generator | None) -> NDArray[np.float32]:
        def look(*, as_critics: bool = False) -> NDArray[np.float32]:
            return encode(self._critics_cameras if as_critics else self._cameras, observation)

        return self._acting.act(observation, look, rng)


class _NetworksOfArms:
    """Acting for several arms, each with networks of its own."""

    def __init__(
        self,
        snapshot: PolicySnapshot,
        actor: PerArm,
        named: Mapping[str, NDArray[Any]],
        shapes: Mapping[str, tuple[int, int, int]],
        widths: Mapping[str, int],
    ) -> None:
        self.action_dim = check_components(tuple(each.components for each in actor.arms))
        self._arms: list[tuple[NDArray[np.intp], _Networks]] = []
        rest = dict(named)
        for each in actor.arms:
            prefix = f"{ARMS}/{each.arm}/"
            own = {name.removeprefix(prefix): rest.pop(name) for name in tuple(rest) if name.startswith(prefix)}
            networks = _Networks(snapshot, each.actor, own, shapes, widths)
            if networks.action_dim != len(each.components):
                expected = f"{len(each.components)} actions, as many as the arm has components"
                raise DataError(f"{prefix}head/kernel", expected, str(networks.action_dim))
            self._arms.append((np.array(each.components), networks))
        if rest:
            raise DataError("arrays", "only those of its arms", f"also {sorted(rest)[:5]}")

    @property
    def planned(self) -> int:
        return max(networks.planned for _, networks in self._arms)

    def reset(self) -> None:
        for _, networks in self._arms:
            networks.reset()

    def check(self, spec: TransitionSpec) -> None:
        for _, networks in self._arms:
            networks.check(spec)

    def act(self, observation: Observation, encode: Encode, rng: np.random.Generator | None) -> NDArray[np.float32]:
        action = np.empty(self.action_dim, np.float32)
        for components, networks in self._arms:
            action[components] = networks.act(observation, encode, rng)
        return action


def _networks(
    snapshot: PolicySnapshot,
    named: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, int, int]],
    widths: Mapping[str, int],
) -> _Networks | _NetworksOfArms:
    actor = snapshot.actor
    if isinstance(actor, PerArm):
        return _NetworksOfArms(snapshot, actor, named, shapes, widths)
    return _Networks(snapshot, actor, named, shapes, widths)


def _split(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The arrays of the best actions, and those that take the place of the ones of that name to explore."""
    prefix = f"{EXPLORING}/"
    best = {name: array for name, array in arrays.items() if not name.startswith(prefix)}
    exploring = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return best, exploring
