# SPDX-License-Identifier: Apache-2.0
"""How a Gymnasium environment that others wrote becomes a world: what of its observation and action means what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator

_SOURCE = re.compile(r"(?P<keys>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)?(?:\[(?P<first>\d+):(?P<end>\d+)\])?")

_DRAWN = re.compile(r"render(?:\.(?P<number>\d{1,3}))?")


class SourceError(ValueError):
    """An observation, or what comes with it, has not what a mapping says."""


@dataclass(frozen=True)
class Source:
    """Where numbers are in a tree of dictionaries: ``robot.hand[0:3]``, ``success``, or ``[4:7]`` of a plain vector."""

    text: str
    keys: tuple[str, ...]
    part: slice

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read the text of a mapping. Raises ValueError: it has another form."""
        match = _SOURCE.fullmatch(text)
        if match is None or not text:
            raise ValueError(f"expected KEY, KEY.KEY, KEY[FIRST:END] or [FIRST:END], found {text!r}")
        keys = tuple(match["keys"].split(".")) if match["keys"] else ()
        if match["first"] is None:
            return cls(text, keys, slice(None))
        first, end = int(match["first"]), int(match["end"])
        if first >= end:
            raise ValueError(f"expected FIRST below END, found {text!r}")
        return cls(text, keys, slice(first, end))

    def value(self, tree: Any) -> Any:
        """What stands there, before anything is cut out. Raises SourceError: a key is missing."""
        for key in self.keys:
            if not isinstance(tree, Mapping) or key not in tree:
                found = (
                    ", ".join(map(str, tree)) if isinstance(tree, Mapping) else f"{type(tree).__name__}, without keys"
                )
                raise SourceError(f"{self.text!r}: expected the key {key!r}, found {found}")
            tree = tree[key]
        return tree

    def read(self, tree: Any, size: int) -> NDArray[np.float64]:
        """The numbers, float64 (size,). Raises SourceError: they are not there, not as many or not finite."""
        value = self.value(tree)
        try:
            numbers = np.asarray(value, np.float64).ravel()[self.part]
        except (TypeError, ValueError) as error:
            raise SourceError(f"{self.text!r}: expected numbers, found {type(value).__name__}") from error
        if numbers.shape != (size,) or not np.isfinite(numbers).all():
            raise SourceError(f"{self.text!r}: expected {size} finite numbers, found {numbers.tolist()}")
        return numbers


@config(kw_only=True)
class GripperMapping:
    """A gripper: its component of the action, and its opening in the observation; straight lines in between."""

    index: int = Field(ge=0, description="component of the environment's action")
    closed: float = Field(description="value of that component which closes")
    open: float = Field(description="value of that component which opens")
    measured: str = Field(description="source of one number that tells the opening")
    measured_closed: float = Field(description="that number when closed")
    measured_open: float = Field(description="that number when open")
    relative: bool = Field(
        default=False, description="true: the component is a change, of a gripper whose command 'measured' tells"
    )

    @model_validator(mode="after")
    def _has_a_range(self) -> GripperMapping:
        Source.parse(self.measured)
        if self.closed == self.open or self.measured_closed == self.measured_open:
            raise ValueError("expected other numbers for open than for closed, found the same")
        return self


@config(kw_only=True)
class PictureMapping:
    """A camera: where its pictures come from."""

    picture: str = Field(
        description="'render' (what the environment draws), 'render.N' (the one of number N, from 0, where it draws "
        "several at once), or the source of an RGB picture (H, W, 3)"
    )
    fovy_deg: float = Field(gt=0.0, lt=180.0, description="angle from the upper to the lower edge")

    @model_validator(mode="after")
    def _is_a_source(self) -> PictureMapping:
        Source.parse(self.picture)
        return self

    @property
    def is_rendered(self) -> bool:
        """Whether the environment draws it."""
        return self.drawn is not None

    @property
    def drawn(self) -> int | None:
        """Which of the pictures that the environment draws it is, -1 where it draws one; None where it draws none."""
        match = _DRAWN.fullmatch(self.picture)
        if match is None:
            return None
        return -1 if match["number"] is None else int(match["number"])


@config(kw_only=True)
class EnvironmentMapping:
    """A Gymnasium environment whose action moves a hand by Cartesian deltas. Sources are those of `Source.parse`."""

    id: str = Field(min_length=1, description="as gymnasium.make takes it: NAME, NAMESPACE/NAME or MODULE:NAME")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of gymnasium.make")
    package: str | None = Field(
        default=None,
        pattern="[a-z][a-z0-9_]*",
        description="NAME of ./serl setup gym NAME, whose virtual environment has it; none: that of the workspace does",
    )
    repeat: int = Field(default=1, ge=1, le=1000, description="steps of the environment in one control step")
    axes: tuple[int, int, int] = Field(
        default=(0, 1, 2), description="components of the environment's action that move the hand along x, y and z"
    )
    scale: float = Field(gt=0.0, description="way of the hand that 1 asks for in one step of the environment [m]")
    tool: str = Field(description="source of the hand's position (3,), the environment's frame [m]")
    gripper: GripperMapping | None = Field(default=None, description="none where the hand cannot grip")
    positions: dict[str, str] = Field(description="source of each object's position (3,) [m], by the object's name")
    quaternions: dict[str, str] = Field(
        default_factory=dict, description="source of objects' orientation (4,), w x y z; others are not turned"
    )
    success: str = Field(description="source in info of what is above 0 when the task is done, or 'terminated'")
    reward: Literal["success", "environment"] = Field(
        default="success", description="1 when the task is done, else 0; or the environment's own, summed over repeats"
    )
    cameras: dict[str, PictureMapping] = Field(default_factory=dict, description="by the camera's name")
    teacher: str | None = Field(
        default=None,
        description="MODULE:CLASS of a scripted person, a serl_tasks.Expert made with the variant, if any",
    )
    teacher_noise: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of a demonstration's noise that the scripted person stands"
    )

    @model_validator(mode="after")
    def _is_readable(self) -> EnvironmentMapping:
        components = [*self.axes, *(() if self.gripper is None else (self.gripper.index,))]
        if len(set(components)) != len(components) or min(components) < 0:
            raise ValueError(f"axes, gripper.index: expected each component once, from 0, found {components}")
        for text in (self.tool, self.success, *self.positions.values(), *self.quaternions.values()):
            Source.parse(text)
        unknown = [name for name in self.quaternions if name not in self.positions]
        if unknown:
            raise ValueError(f"quaternions: expected objects of 'positions', found {', '.join(unknown)}")
        if self.teacher is not None and not re.fullmatch(r"[\w.]+:\w+", self.teacher):
            raise ValueError(f"teacher: expected MODULE:CLASS, found {self.teacher!r}")
        return self

    @property
    def advice(self) -> str:
        """What to do where its package is missing; empty where nothing is known to help."""
        if self.package is None:
            return ""
        return (
            f"; run ./serl setup gym {self.package}, whose virtual environment has it, and with ./serl launch say "
            f"gym_python:=.venv-gym-{self.package}/bin/python"
        )

    @cached_property
    def tool_source(self) -> Source:
        """Where the hand's position is in an observation."""
        return Source.parse(self.tool)

    @cached_property
    def success_source(self) -> Source | None:
        """Where success is in `info`; None where the end of an episode is success."""
        return None if self.success == "terminated" else Source.parse(self.success)
