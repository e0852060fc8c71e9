# SPDX-License-Identifier: Apache-2.0
"""The state vector of a task: named terms, shifted and scaled by constants to about unit range.

Terms of the arm are ``tcp_position`` [m], ``tcp_rotation`` (first two columns of the rotation matrix),
``tcp_linear_velocity`` [m/s], ``tcp_angular_velocity`` [rad/s], ``gripper_width`` [m] and ``gripper_target`` [m]. An
object ``cube`` adds ``cube_position`` and ``cube_from_tcp`` [m], the way from the tool to it. All in the base frame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import ConfigError, Field, config, suggestion
from serl_robots.model.pose import Pose


@dataclass(frozen=True)
class ArmSample:
    """What an observation needs of the arm, measured at one moment."""

    tcp: Pose
    """Tool centre point in the base frame."""
    tcp_velocity: NDArray[np.float64]
    """(6,) linear [m/s], then angular [rad/s], in the base frame."""
    gripper_width: float
    """Measured distance of the fingers [m]."""
    gripper_target: float
    """Commanded distance of the fingers [m]."""


@config(kw_only=True)
class StateTerm:
    """One entry of the state vector: ``(value - shift) / scale``."""

    name: str
    shift: tuple[float, ...] = Field(description="middle of the range, for each value")
    scale: tuple[float, ...] = Field(description="half of the range, for each value")


Source = Callable[[ArmSample, Mapping[str, Pose]], NDArray[np.float64] | tuple[float, ...]]

_ARM_SOURCES: dict[str, tuple[int, Source]] = {
    "tcp_position": (3, lambda arm, _: arm.tcp.position),
    "tcp_rotation": (6, lambda arm, _: arm.tcp.rotation_matrix()[:, :2].T.ravel()),
    "tcp_linear_velocity": (3, lambda arm, _: arm.tcp_velocity[:3]),
    "tcp_angular_velocity": (3, lambda arm, _: arm.tcp_velocity[3:]),
    "gripper_width": (1, lambda arm, _: (arm.gripper_width,)),
    "gripper_target": (1, lambda arm, _: (arm.gripper_target,)),
}


def _object_sources(name: str) -> dict[str, tuple[int, Source]]:
    return {
        f"{name}_position": (3, lambda _, objects: objects[name].position),
        f"{name}_from_tcp": (3, lambda arm, objects: objects[name].position - arm.tcp.position),
    }


class StateVector:
    """Turns what was measured into the state vector of a task.

    Attributes:
        size: number of values.
        observed_objects: names of the objects whose poses it takes.
    """

    def __init__(self, terms: Sequence[StateTerm], objects: Sequence[str]) -> None:
        """Prepare the vector of `terms`, in their order, for a world with `objects`.

        Raises:
            ConfigError: a term is unknown, or its constants have the wrong length or a scale is not positive.
        """
        self._arguments = terms, objects
        known = dict(_ARM_SOURCES)
        for name in objects:
            known |= _object_sources(name)
        object_terms = {term: name for name in objects for term in _object_sources(name)}
        observed = {object_terms[term.name] for term in terms if term.name in object_terms}
        self.observed_objects = tuple(name for name in objects if name in observed)
        self._sources: list[Source] = []
        for term in terms:
            if term.name not in known:
                raise ConfigError(f"state: unknown term {term.name!r}" + suggestion(term.name, [*known]))
            size, source = known[term.name]
            if len(term.shift) != size or len(term.scale) != size:
                raise ConfigError(
                    f"state: {term.name!r} has {size} values; "
                    f"found {len(term.shift)} of shift, {len(term.scale)} of scale"
                )
            if not all(scale > 0.0 for scale in term.scale):
                raise ConfigError(f"state: {term.name!r}: expected positive scales, found {list(term.scale)}")
            self._sources.append(source)
        self._shift = np.array([value for term in terms for value in term.shift])
        self._scale = np.array([value for term in terms for value in term.scale])
        self.size = len(self._shift)

    def __reduce__(self) -> Any:
        return StateVector, self._arguments  # its sources are functions without a name

    def __call__(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """State vector, float32 (size,)."""
        raw = np.concatenate([source(arm, objects) for source in self._sources])
        return ((raw - self._shift) / self._scale).astype(np.float32)
