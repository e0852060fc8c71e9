# SPDX-License-Identifier: Apache-2.0
"""What lies around in a task, and where it may lie at the start."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Final, Literal

import numpy as np
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, Vector3, quaternion_exp

from serl_tasks.objects.flexible import Flexible
from serl_tasks.objects.mounts import HingeMount, SlideMount, ToolMount
from serl_tasks.objects.solid import Shape, Solid, check_colour

Mount = Literal["free", "fixed", "held", "sliding", "hinged"]


# The key that says where it is, of what does not start at a place of its own, and what that key says.
_PLACED: Final[dict[Mount, tuple[str, str]]] = {
    "held": ("in_tool", "where the object is held"),
    "sliding": ("slide", "on what it slides"),
    "hinged": ("hinge", "on what it turns"),
}


@config(kw_only=True)
class SceneObject:
    """One solid, or several that are rigidly joined.

    A *free* object can be moved, and one that is *fixed* cannot. At the start they are uniformly within a rectangle and
    a range of turns about the vertical; they stand on the table unless `height` says otherwise. One that is *held* is
    rigidly joined to the tool, and part of it as far as its weight is concerned, which the arm knows. One that is
    *sliding* moves along a line of a fixed one, goes wherever that one does, and never meets that one; one that is
    *hinged* turns about an axis of a fixed one instead.

    A capsule may be *flexible*: a cable that is held by its end, which is its origin, and goes from there along z while
    it is straight. The length in its `size` is that of its axis, behind whose ends it goes on by its radius. Beside its
    own pose, that of the end, it has one of each of its `points`.
    """

    shape: Shape = Field(default="box", description="box, cylinder, capsule or sphere, where there are no parts")
    size: tuple[float, ...] = Field(default=(), description="of the shape [m]; none where there are parts")
    parts: tuple[Solid, ...] = Field(default=(), max_length=64, description="solids that are joined")
    mass: float | None = Field(default=None, gt=0.0, description="[kg]; of what is not fixed")
    friction: float = Field(default=1.0, ge=0.0, le=10.0, description="sliding friction against what is not a gripper")
    colour: Vector3 = Field(description="red, green, blue, each in [0, 1]")
    mount: Mount = Field(default="free", description="free, fixed, held, sliding or hinged")
    lower: tuple[float, float] | None = Field(
        default=None,
        description="smallest x and y of the origin at the start, base frame [m]; of what is free or fixed",
    )
    upper: tuple[float, float] | None = Field(default=None, description="largest x and y, as lower")
    height: float | None = Field(default=None, description="of the origin at the start, base frame [m]")
    yaw_deg: float = Field(default=0.0, ge=0.0, le=180.0, description="largest turn about the vertical at the start")
    in_tool: ToolMount | None = Field(default=None, description="where it is held; of what is held")
    slide: SlideMount | None = Field(default=None, description="on what and how it slides; of what is sliding")
    hinge: HingeMount | None = Field(default=None, description="on what and how it turns; of what is hinged")
    flexible: Flexible | None = Field(default=None, description="how it bends, if it does; of a capsule that is held")

    @model_validator(mode="after")
    def _consistent(self) -> SceneObject:
        if bool(self.size) == bool(self.parts):
            raise ValueError("expected either size or parts, found " + ("both" if self.size else "none of them"))
        if self.parts and self.shape != "box":
            raise ValueError(f"shape: expected one for each of the parts instead, found {self.shape!r}")
        if self.flexible is not None and (self.mount != "held" or self.parts or self.shape != "capsule"):
            found = "parts" if self.parts else f"a {self.shape}"
            raise ValueError(f"flexible: expected a capsule that is held, found {found} that is {self.mount}")
        _ = self.solids
        check_colour(self.colour)
        if self.mount != "fixed" and self.mass is None:
            raise ValueError(f"mass: expected one, because the object is {self.mount}, found none")
        for mount, (key, what) in _PLACED.items():
            if (self.mount == mount) != (getattr(self, key) is not None):
                raise ValueError(f"{key}: expected {what} if mount is {mount}, else none; found mount {self.mount}")
        if not self.has_place:
            if self.lower or self.upper or self.yaw_deg or self.height is not None:
                key, _ = _PLACED[self.mount]
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
        """All that it consists of, of what is flexible each of its links, in the frame of that."""
        if self.flexible is None:
            return self.parts or (Solid(shape=self.shape, size=self.size),)
        diameter, length = Solid(shape=self.shape, size=self.size).size[0], self.link_length
        link = Solid(shape=self.shape, size=(diameter, length + diameter), position=(0.0, 0.0, 0.5 * length))
        return (link,) * self.flexible.links

    @property
    def link_length(self) -> float:
        """Distance of the joints of what is flexible [m]; of anything else 0."""
        return 0.0 if self.flexible is None else self.size[1] / self.flexible.links

    def points(self, name: str) -> tuple[str, ...]:
        """Names of the poses that it has beside its own, where its own is `name`.

        Of what is flexible they are its joints, in the order in which they follow the held end, each with the turn
        of the link that begins there, and its free end; of anything else there are none.
        """
        return () if self.flexible is None else tuple(f"{name}_{1 + index}" for index in range(self.flexible.links))

    def frames(self, name: str) -> tuple[str, ...]:
        """Names of the poses in whose frames its `solids` are, where its own is `name`."""
        if self.flexible is None:
            return (name,) * len(self.solids)
        return (name, *self.points(name)[:-1])

    @property
    def joint(self) -> SlideMount | HingeMount | None:
        """How it moves on another object, if it does."""
        return self.slide or self.hinge

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
            ValueError: the object is held, sliding or hinged, and starts where something else is.
        """
        if self.lower is None or self.upper is None:
            leader = "the tool" if self.mount == "held" else "its base"
            raise ValueError(f"an object that is {self.mount} starts where {leader} does")
        x, y = rng.uniform(self.lower, self.upper).tolist()
        yaw = math.radians(rng.uniform(-self.yaw_deg, self.yaw_deg))
        return Pose((x, y, self.start_height), quaternion_exp((0.0, 0.0, yaw)))
