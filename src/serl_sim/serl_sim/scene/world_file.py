# SPDX-License-Identifier: Apache-2.0
"""What surrounds the robot: ``config/worlds/<name>.yaml``."""

from collections.abc import Sequence
from dataclasses import replace

from serl_config.named_files import load_named
from serl_config.schema import ConfigError, Field, config, model_validator
from serl_robots.model.camera_mount import CameraMount
from serl_robots.model.pose import Vector3
from serl_robots.model.robot import FOLDER as ROBOTS
from serl_robots.model.robot import RobotModel

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
class WorldFile:
    """Table and cameras, without the robot."""

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
    return load_named(FOLDER, name, WorldFile, "world")[0]


def cameras_of(world: WorldFile, robot: RobotModel, arms: Sequence[str] = ("",)) -> dict[str, CameraMount]:
    """All cameras by their names: those of the world, then those that the robot carries, each of `arms` its own.

    Raises:
        ConfigError: a name is given to two of them.
    """
    twice = world.cameras.keys() & robot.cameras.keys()
    if twice:
        raise ConfigError(
            f"camera {', '.join(sorted(twice))} is in {FOLDER}/{world.name}.yaml and in "
            f"{ROBOTS}/{robot.name}.yaml; give one of them another name"
        )
    carried = {
        f"{arm}/{name}" if arm else name: replace(camera, parent=f"{arm}/{camera.parent}") if arm else camera
        for arm in arms
        for name, camera in robot.cameras.items()
    }
    return world.cameras | carried
