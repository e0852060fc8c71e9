# SPDX-License-Identifier: Apache-2.0
"""Meaning of a normalized action: blocks of named components in [-1, 1], for one arm or several side by side.

A component's name says what it is. `dx dy dz` and `rx ry rz` move the commanded tool pose, `j1` to `jn` the commanded
joint positions, `gripper` is a width. With a prefix it belongs to an arm: `left/dx`, `right/j3`.

An action of several arms is split where it leaves for the arms: `ActionSpec.split` gives each its own part, which goes
to the `policy/action` of that arm's namespace. An `ArmController` commands one arm, and knows only the part of its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator

TRANSLATION = ("dx", "dy", "dz")
ROTATION = ("rx", "ry", "rz")
GRIPPER = "gripper"

Frame = Literal["base", "tool"]
"""Whose axes a task's actions and observations have: those of the arm's base, or of the tool itself."""

_NUMBERED_JOINT: Final = re.compile(r"j[1-9][0-9]*")
_SEPARATOR: Final = "/"

# What float32 arithmetic may add to a bound that was meant to be 1.
_TOLERANCE = 1e-5


class ActionError(ValueError):
    """An action that does not fit the task's action space."""


class BlockKind(Enum):
    """What the components of a block change."""

    TRANSLATION = "translation"
    """The commanded tool position, by a delta in the task's frame [m]."""
    ROTATION = "rotation"
    """The commanded tool orientation, by a rotation vector in the task's frame [rad]."""
    JOINTS = "joints"
    """The commanded joint positions, by deltas [rad]."""
    GRIPPER = "gripper"
    """The width of the gripper, which is absolute [m]."""

    @property
    def unit(self) -> str:
        """SI unit of what 1 means, times the component's scale."""
        return "m" if self in (BlockKind.TRANSLATION, BlockKind.GRIPPER) else "rad"


@dataclass(frozen=True)
class ActionBlock:
    """Components of one arm that are of one kind.

    Attributes:
        arm: prefix of the arm, empty without one.
        kind: what the components change.
        names: of the components, without the prefix.
        indices: of the components in the action vector.
        scale: what 1 means for each component, in `kind.unit`.
    """

    arm: str
    kind: BlockKind
    names: tuple[str, ...]
    indices: tuple[int, ...]
    scale: tuple[float, ...]

    @property
    def scaled(self) -> tuple[tuple[int, float], ...]:
        """(index, scale) of each component."""
        return tuple(zip(self.indices, self.scale, strict=True))


@config
class ActionSpec:
    """Components of an action vector and what a value of 1 means.

    `dx dy dz` [m] and `rx ry rz` [rad, a rotation vector] are deltas of the commanded tool pose, any of them, in the
    task's frame: along and about the axes of the base, or of the commanded tool itself. `j1` to `jn` [rad] are deltas
    of the commanded positions of the arm's joints, which may also be called by the names that `joints` lists. What has
    no component stays as it is. An arm has either a tool pose or joints. `gripper` is an absolute width: -1 is closed
    (0 m), +1 is its scale [m], linear between.
    """

    names: tuple[str, ...] = Field(
        description="components in order: dx dy dz, rx ry rz, or j1 j2 ..., gripper; of several arms as left/dx"
    )
    scale: tuple[float, ...] = Field(description="for each component what 1 means: [m], [rad], width [m]")
    joints: tuple[str, ...] = Field(default=(), description="components that are called as the robot's joints are")

    @model_validator(mode="after")
    def _consistent(self) -> "ActionSpec":
        found = repr(" ".join(self.names))
        known = " ".join((*TRANSLATION, *ROTATION, GRIPPER))
        unknown = [name for name in self.names if self._kind(name) is None]
        if unknown or len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(
                f"names: expected some of {known}, j1 j2 ... and what 'joints' lists, each once, found {found}"
            )
        for joint in self.joints:
            if not any(_split(name)[1] == joint for name in self.names):
                raise ValueError(f"joints: expected some of the names {' '.join(self.names)}, found {joint!r}")
        for arm in self.arms:
            own = {name for prefix, name in map(_split, self.names) if prefix == arm}
            posed = own.intersection((*TRANSLATION, *ROTATION))
            if posed and any(self._kind(name) is BlockKind.JOINTS for name in own):
                raise ValueError(f"names: expected a tool pose or joints of an arm, not both, found {found}")
        if len(self.scale) != len(self.names) or not all(value > 0.0 for value in self.scale):
            raise ValueError(f"scale: expected {len(self.names)} positive numbers, found {list(self.scale)}")
        return self

    def __len__(self) -> int:
        return len(self.names)

    def _kind(self, name: str) -> BlockKind | None:
        """What a component is; None: nothing that is known."""
        short = _split(name)[1]
        if short in self.joints or _NUMBERED_JOINT.fullmatch(short):
            return BlockKind.JOINTS
        if short in TRANSLATION:
            return BlockKind.TRANSLATION
        if short in ROTATION:
            return BlockKind.ROTATION
        return BlockKind.GRIPPER if short == GRIPPER else None

    # What it consists of

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Prefixes of the arms, in the order in which they come first; one empty prefix where there are none."""
        return tuple(dict.fromkeys(_split(name)[0] for name in self.names))

    @cached_property
    def blocks(self) -> tuple[ActionBlock, ...]:
        """Its blocks, arm by arm: translation, rotation, joints, gripper, of which each arm has some."""
        found = []
        for arm in self.arms:
            for kind in BlockKind:
                indices = [i for i, n in enumerate(self.names) if _split(n)[0] == arm and self._kind(n) is kind]
                if kind in (BlockKind.TRANSLATION, BlockKind.ROTATION):  # x before y before z, however they are listed
                    order = TRANSLATION if kind is BlockKind.TRANSLATION else ROTATION
                    indices.sort(key=lambda i, order=order: order.index(_split(self.names[i])[1]))  # type: ignore[misc]
                if indices:
                    names = tuple(_split(self.names[i])[1] for i in indices)
                    found.append(ActionBlock(arm, kind, names, tuple(indices), tuple(self.scale[i] for i in indices)))
        return tuple(found)

    @cached_property
    def units(self) -> tuple[str, ...]:
        """SI unit of each component's scale: `m` or `rad`."""
        units = [""] * len(self)
        for block in self.blocks:
            for index in block.indices:
                units[index] = block.kind.unit
        return tuple(units)

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Smallest and largest action, float32 (n,) each."""
        ones = np.ones(len(self), np.float32)
        return -ones, ones

    @cached_property
    def translation(self) -> tuple[tuple[int, float], ...]:
        """(index, scale) of those of dx, dy, dz that the action of the only arm has, in this order."""
        return self._of(BlockKind.TRANSLATION)

    @cached_property
    def rotation(self) -> tuple[tuple[int, float], ...]:
        """(index, scale) of those of rx, ry, rz that the action of the only arm has, in this order."""
        return self._of(BlockKind.ROTATION)

    @cached_property
    def twist(self) -> tuple[tuple[int, int, float], ...]:
        """(axis, index, scale) of each delta of the only arm's tool; axes 0 to 5 are dx, dy, dz, rx, ry, rz."""
        axes = (*TRANSLATION, *ROTATION)
        return tuple(
            (axes.index(name), index, scale)
            for block in self.blocks
            if block.kind in (BlockKind.TRANSLATION, BlockKind.ROTATION)
            for name, (index, scale) in zip(block.names, block.scaled, strict=True)
        )

    @cached_property
    def joint_block(self) -> ActionBlock | None:
        """Joint deltas of the only arm, if the action has some."""
        return next((block for block in self.blocks if block.kind is BlockKind.JOINTS), None)

    @cached_property
    def gripper(self) -> tuple[int, float] | None:
        """(index, scale) of the gripper of the only arm, if the action has one."""
        group = self._of(BlockKind.GRIPPER)
        return group[0] if group else None

    def _of(self, kind: BlockKind) -> tuple[tuple[int, float], ...]:
        return next((block.scaled for block in self.blocks if block.kind is kind), ())

    # Several arms

    def of_arm(self, arm: str) -> "ActionSpec":
        """The part of one arm, without its prefix.

        Raises:
            KeyError: there is no such arm.
        """
        indices = self._indices(arm)
        names = tuple(_split(self.names[i])[1] for i in indices)
        joints = tuple(joint for joint in self.joints if joint in names)
        return ActionSpec(names=names, scale=tuple(self.scale[i] for i in indices), joints=joints)

    def split(self, action: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The parts of an action (n,), by arm, each in the order of `of_arm`."""
        return {arm: action[self._indices(arm)] for arm in self.arms}

    def join(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The action float32 (n,) whose parts these are, by arm: the inverse of `split`."""
        action = np.zeros(len(self), np.float32)
        for arm in self.arms:
            action[self._indices(arm)] = parts[arm]
        return action

    def _indices(self, arm: str) -> list[int]:
        if arm not in self.arms:
            raise KeyError(f"expected one of the arms {', '.join(map(repr, self.arms))}, found {arm!r}")
        return [index for index, name in enumerate(self.names) if _split(name)[0] == arm]

    # Actions

    def rest(self, gripper_width: float | Mapping[str, float]) -> NDArray[np.float32]:
        """The action that changes nothing, float32 (n,).

        Args:
            gripper_width: what is commanded now [m], because it is absolute; of several arms by their prefixes.
        """
        action = np.zeros(len(self), np.float32)
        for block in self.blocks:
            if block.kind is BlockKind.GRIPPER:
                width = gripper_width[block.arm] if isinstance(gripper_width, Mapping) else gripper_width
                for index, full in block.scaled:
                    action[index] = min(max(2.0 * width / full - 1.0, -1.0), 1.0)
        return action

    def problem(self, action: Sequence[float]) -> str | None:
        """Why these numbers are no action (length, not finite, outside [-1, 1]), or None."""
        if len(action) != len(self.names):
            return f"expected {len(self.names)} values ({' '.join(self.names)}), found {len(action)}"
        for name, value in zip(self.names, action, strict=True):
            if not abs(value) <= 1.0 + _TOLERANCE:
                return f"expected {name} in [-1, 1], found {value}"
        return None

    def check(self, action: Any) -> NDArray[np.float32]:
        """The action as float32 (n,), clipped by what rounding may have added.

        Raises:
            ActionError: wrong shape, not finite, or outside [-1, 1].
        """
        array = np.asarray(action, dtype=np.float32)
        if array.ndim != 1:
            raise ActionError(f"expected a vector of {len(self)} values, found shape {array.shape}")
        problem = self.problem(array.tolist())
        if problem is not None:
            raise ActionError(problem)
        return np.clip(array, np.float32(-1.0), np.float32(1.0))


def _split(name: str) -> tuple[str, str]:
    """Prefix of the arm and the rest of a component's name."""
    arm, _, short = name.rpartition(_SEPARATOR)
    return arm, short
