# SPDX-License-Identifier: Apache-2.0
"""What surrounds the robot: ``config/worlds/<name>.yaml``."""

import numpy as np
from serl_config.schema import ConfigError, Field, config, load_yaml, model_validator, suggestion
from serl_robots.model.pose import Pose, Vector3, quaternion_from_matrix

from serl_config import resources

FOLDER = "config/worlds"


@config(kw_only=True)
class Table:
    """The table that the robot stands on; its top is the plane z = 0 of the base frame."""

    lower: tuple[float, float] = Field(description="smallest x and y [m]")
    upper: tuple[float, float] = Field(description="largest x and y [m]")
    height: float = Field(gt=0.05, description="of the top above the floor [m]")
    colour: Vector3 = Field(description="red, green, blue, each in [0, 1]")

    @model_validator(mode="after")
    def _has_an_area(self) -> "Table":
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"expected lower < upper, found {list(self.lower)} and {list(self.upper)}")
        return self


@config(kw_only=True)
class CameraMount:
    """A pinhole camera, fixed to a frame."""

    parent: str = Field(description="link of the robot that carries it, or world")
    position: Vector3 = Field(description="in the parent's frame [m]")
    target: Vector3 = Field(description="point in the middle of the image, in the parent's frame [m]")
    up: Vector3 = Field(description="direction towards the upper edge of the image, in the parent's frame")
    fovy_deg: float = Field(gt=1.0, lt=170.0, description="angle from the upper to the lower edge of the image")

    @model_validator(mode="after")
    def _looks_somewhere(self) -> "CameraMount":
        if np.linalg.norm(np.cross(np.subtract(self.target, self.position), self.up)) < 1e-6:
            raise ValueError("expected a target away from the position, and an up that is not along the view")
        return self

    def optical_frame(self) -> Pose:
        """Pose in the parent's frame; z forward, x right, y down in the image (REP 103)."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, self.up)
        right = right / np.linalg.norm(right)
        down = np.cross(forward, right)
        return Pose(self.position, quaternion_from_matrix(np.column_stack((right, down, forward))))


@config(kw_only=True)
class WorldFile:
    """Table and cameras."""

    name: str
    table: Table
    cameras: dict[str, CameraMount] = Field(
        max_length=32, description="by the names under which they are published and observed"
    )
    overview: CameraMount = Field(description="where pictures and films for people are taken from")


def load_world_file(name: str) -> WorldFile:
    """Load ``config/worlds/<name>.yaml``.

    Raises:
        ConfigError: there is no such world, or its file is wrong.
    """
    known = resources.listing(FOLDER, ".yaml")
    if name not in known:
        raise ConfigError(f"unknown world {name!r}" + suggestion(name, [*known]))
    world = load_yaml(known[name], WorldFile)
    if world.name != name:
        raise ConfigError(f"{known[name]}: 'name': expected {name!r} as the file's name says, found {world.name!r}")
    return world
