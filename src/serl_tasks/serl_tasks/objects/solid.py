# SPDX-License-Identifier: Apache-2.0
"""One convex solid of an object."""

from __future__ import annotations

import math
from typing import Literal

from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, Vector3, quaternion_exp

Shape = Literal["box", "cylinder", "capsule", "sphere"]

_SIZES: dict[Shape, tuple[str, ...]] = {
    "box": ("x", "y", "z"),
    "cylinder": ("diameter", "height"),
    "capsule": ("diameter", "height"),
    "sphere": ("diameter",),
}


@config(kw_only=True)
class Solid:
    """A convex solid in the frame of its object. A cylinder and a capsule stand along z."""

    shape: Shape = Field(default="box", description="box, cylinder, capsule or sphere")
    size: tuple[float, ...] = Field(
        description="edges of a box; diameter and whole height of a cylinder or capsule; diameter of a sphere [m]"
    )
    position: Vector3 = Field(default=(0.0, 0.0, 0.0), description="of its centre, frame of the object [m]")
    rotation_deg: Vector3 = Field(default=(0.0, 0.0, 0.0), description="its turn, a rotation vector [deg]")
    colour: Vector3 | None = Field(default=None, description="red, green, blue, each in [0, 1]; that of its object")

    @model_validator(mode="after")
    def _consistent(self) -> Solid:
        names = _SIZES[self.shape]
        if len(self.size) != len(names) or not all(length > 0.0 for length in self.size):
            raise ValueError(
                f"size: expected {len(names)} positive lengths ({', '.join(names)}) of a {self.shape}, found "
                f"{list(self.size)}"
            )
        if self.shape == "capsule" and self.size[1] < self.size[0]:
            raise ValueError(f"size: expected a capsule at least as high as thick, found {list(self.size)}")
        check_colour(self.colour)
        return self

    @property
    def pose(self) -> Pose:
        """Where it is in the frame of its object."""
        x, y, z = (math.radians(angle) for angle in self.rotation_deg)
        return Pose(self.position, quaternion_exp((x, y, z)))

    @property
    def half_extents(self) -> Vector3:
        """Half of its size along its own axes [m]."""
        if self.shape == "box":
            x, y, z = self.size
            return 0.5 * x, 0.5 * y, 0.5 * z
        radius = 0.5 * self.size[0]
        return radius, radius, radius if self.shape == "sphere" else 0.5 * self.size[1]

    @property
    def volume(self) -> float:
        """How much room it takes [m^3]."""
        x, y, z = self.half_extents
        if self.shape == "box":
            return 8.0 * x * y * z
        ball = 4.0 / 3.0 * math.pi * x**3
        if self.shape == "sphere":
            return ball
        if self.shape == "capsule":
            return ball + math.pi * x**2 * 2.0 * (z - x)
        return math.pi * x**2 * 2.0 * z

    @property
    def lowest(self) -> float:
        """Height of its lowest point in the frame of its object [m]."""
        down = self.pose.rotation_matrix()[2]  # how far each of its own axes goes up
        radius = 0.5 * self.size[0]
        if self.shape == "sphere":
            reach = radius
        elif self.shape == "capsule":
            reach = radius + abs(down[2]) * (0.5 * self.size[1] - radius)
        elif self.shape == "cylinder":
            reach = radius * math.hypot(down[0], down[1]) + 0.5 * self.size[1] * abs(down[2])
        else:
            reach = sum(abs(part) * half for part, half in zip(down, self.half_extents, strict=True))
        return float(self.position[2] - reach)


def check_colour(colour: Vector3 | None) -> None:
    """Raise ValueError where a colour is none."""
    if colour is not None and not all(0.0 <= part <= 1.0 for part in colour):
        raise ValueError(f"colour: expected three numbers in [0, 1], found {list(colour)}")
