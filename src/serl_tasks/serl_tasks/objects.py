# SPDX-License-Identifier: Apache-2.0
"""What lies around in a task, and where it may lie at the start."""

import math

import numpy as np
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, quaternion_exp


@config(kw_only=True)
class BoxObject:
    """A box that can be moved. At the start it stands on the table, uniformly within a rectangle and a range of yaw."""

    size: tuple[float, float, float] = Field(description="edge lengths [m]")
    mass: float = Field(gt=0.0, description="[kg]")
    colour: tuple[float, float, float] = Field(description="red, green, blue, each in [0, 1]")
    lower: tuple[float, float] = Field(description="smallest x and y of the centre at the start, base frame [m]")
    upper: tuple[float, float] = Field(description="largest x and y of the centre at the start, base frame [m]")
    yaw_deg: float = Field(0.0, ge=0.0, le=180.0, description="largest turn about the vertical at the start")

    @model_validator(mode="after")
    def _consistent(self) -> "BoxObject":
        if not all(edge > 0.0 for edge in self.size):
            raise ValueError(f"size: expected three positive lengths, found {list(self.size)}")
        if not all(0.0 <= part <= 1.0 for part in self.colour):
            raise ValueError(f"colour: expected three numbers in [0, 1], found {list(self.colour)}")
        if not all(low <= high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"expected lower <= upper, found {list(self.lower)} and {list(self.upper)}")
        return self

    def sample(self, rng: np.random.Generator) -> Pose:
        """Draw a start pose in the base frame: three draws from `rng`."""
        x, y = rng.uniform(self.lower, self.upper).tolist()
        yaw = math.radians(rng.uniform(-self.yaw_deg, self.yaw_deg))
        return Pose((x, y, 0.5 * self.size[2]), quaternion_exp((0.0, 0.0, yaw)))
