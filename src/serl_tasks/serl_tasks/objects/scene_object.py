# SPDX-License-Identifier: Apache-2.0
"""What lies around in a task, and where it may lie at the start."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import numpy as np
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, Vector3, quaternion_exp

from serl_tasks.objects.solid import Shape, Solid, check_colour

Mount = Literal["free", "fixed", "held", "sliding"]


@config(kw_only=True)
class ToolMount:
    """How an object sits rigidly between the fingers."""

    position: Vector3 = Field(description="of the object in the frame of the tool [m]")
    rotation_deg: Vector3 = Field(default=(0.0, 0.0, 0.0), description="its turn, a rotation vector [deg]")

    @property
    def pose(self) -> Pose:
        """The object in the frame of the tool."""
        x, y, z = (math.radians(angle) for angle in self.rotation_deg)
        return Pose(self.position, quaternion_exp((x, y, z)))


@config(kw_only=True)
class SlideMount:
    """How an object slides on another one, as a drawer does in its cabinet. It starts at the beginning of its way."""

    base: str = Field(description="object on which it slides, which is fixed")
    position: Vector3 = Field(description="of its origin at the start, frame of the base [m]")
    axis: Vector3 = Field(description="direction in which it slides, frame of the base")
    reach: float = Field(gt=0.0, description="length of its way [m]")
    friction: float = Field(default=0.0, ge=0.0, description="force that it takes to move it [N]")
    damping: float = Field(default=0.0, ge=0.0, description="more force for each m/s [N s/m]")

    @model_validator(mode="after")
    def _unit_axis(self) -> SlideMount:
        if abs(math.hypot(*self.axis) - 1.0) > 1e-3:
            raise ValueError(f"axis: expected a vector of length 1, found {list(self.axis)}")
        return self

    def pose(self, base: Pose, way: float) -> Pose:
        """The object `way` [m] from its start, of a base at `base`."""
        x, y, z = (start + way * part for start, part in zip(self.position, self.axis, strict=True))
        return base.compose(Pose((x, y, z)))


@config(kw_only=True)
class SceneObject:
    """One solid, or several that are rigidly joined.

    A *free* object can be moved, and one that is *fixed* cannot. At the start they are uniformly within a rectangle and
    a range of turns about the vertical; they stand on the table unless `height` says otherwise. One that is *held* is
    rigidly joined to the tool, and part of it as far as its weight is concerned, which the arm knows. One that is
    *sliding* moves along a line of a fixed one, which goes wherever that one does, and never meets that one.
    """

    shape: Shape = Field(default="box", description="box, cylinder, capsule or sphere, where there are no parts")
    size: tuple[float, ...] = Field(default=(), description="of the shape [m]; none where there are parts")
    parts: tuple[Solid, ...] = Field(default=(), max_length=64, description="solids that are joined")
    mass: float | None = Field(default=None, gt=0.0, description="[kg]; of what is not fixed")
    friction: float = Field(default=1.0, ge=0.0, le=10.0, description="sliding friction against what is not a gripper")
    colour: Vector3 = Field(description="red, green, blue, each in [0, 1]")
    mount: Mount = Field(default="free", description="free, fixed, held or sliding")
    lower: tuple[float, float] | None = Field(
        default=None,
        description="smallest x and y of the origin at the start, base frame [m]; of what is free or fixed",
    )
    upper: tuple[float, float] | None = Field(default=None, description="largest x and y, as lower")
    height: float | None = Field(default=None, description="of the origin at the start, base frame [m]")
    yaw_deg: float = Field(default=0.0, ge=0.0, le=180.0, description="largest turn about the vertical at the start")
    in_tool: ToolMount | None = Field(default=None, description="where it is held; of what is held")
    slide: SlideMount | None = Field(default=None, description="on what and how it slides; of what is sliding")

    @model_validator(mode="after")
    def _consistent(self) -> SceneObject:
        if bool(self.size) == bool(self.parts):
            raise ValueError("expected either size or parts, found " + ("both" if self.size else "none of them"))
        if self.parts and self.shape != "box":
            raise ValueError(f"shape: expected one for each of the parts instead, found {self.shape!r}")
        _ = self.solids
        check_colour(self.colour)
        if self.mount != "fixed" and self.mass is None:
            raise ValueError(f"mass: expected one, because the object is {self.mount}, found none")
        if (self.mount == "held") != (self.in_tool is not None):
            raise ValueError(
                f"in_tool: expected where the object is held if mount is held, else none; found mount {self.mount}"
            )
        if (self.mount == "sliding") != (self.slide is not None):
            raise ValueError(
                f"slide: expected on what it slides if mount is sliding, else nothing; found mount {self.mount}"
            )
        if not self.has_place:
            if self.lower or self.upper or self.yaw_deg or self.height is not None:
                key = "in_tool" if self.mount == "held" else "slide"
                raise ValueError(
                    f"expected {key} alone of an object that is {self.mount}, found lower, upper, yaw or height"
                )
            return self
        if self.lower is None or self.upper is None:
            raise ValueError(f"expected lower and upper, because the object is {self.mount}")
        if not all(low <= high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"expected lower <= upper, found {list(self.lower)} and {list(self.upper)}")
        return self

    @cached_property
    def solids(self) -> tuple[Solid, ...]:
        """All that it consists of."""
        return self.parts or (Solid(shape=self.shape, size=self.size),)

    @property
    def has_place(self) -> bool:
        """Whether it starts at a place of its own, and not where something else is."""
        return self.mount in ("free", "fixed")

    @property
    def is_box(self) -> bool:
        """Whether it is one box, whose edges are `size`."""
        return not self.parts and self.shape == "box"

    @cached_property
    def volume(self) -> float:
        """Sum of the volumes of its parts, over which the mass is spread evenly [m^3]."""
        return sum(solid.volume for solid in self.solids)

    @cached_property
    def rest_height(self) -> float:
        """Height of its origin above what it stands on [m]."""
        return -min(solid.lowest for solid in self.solids)

    @property
    def start_height(self) -> float:
        """Height of its origin at the start, base frame [m]."""
        return self.rest_height if self.height is None else self.height

    @property
    def middle(self) -> Vector3:
        """Middle of where its origin may be at the start, base frame [m]. Of what is free or fixed."""
        assert self.lower is not None
        assert self.upper is not None
        x, y = (0.5 * (low + high) for low, high in zip(self.lower, self.upper, strict=True))
        return x, y, self.start_height

    def sample(self, rng: np.random.Generator) -> Pose:
        """Draw a start pose in the base frame: three draws from `rng`.

        Raises:
            ValueError: the object is held or sliding, and starts where something else is.
        """
        if self.lower is None or self.upper is None:
            leader = "the tool" if self.mount == "held" else "its base"
            raise ValueError(f"an object that is {self.mount} starts where {leader} does")
        x, y = rng.uniform(self.lower, self.upper).tolist()
        yaw = math.radians(rng.uniform(-self.yaw_deg, self.yaw_deg))
        return Pose((x, y, self.start_height), quaternion_exp((0.0, 0.0, yaw)))
