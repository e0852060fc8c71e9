# SPDX-License-Identifier: Apache-2.0
"""What planned motions keep away from: `config/scenes/<name>.yaml`."""

import mujoco
from serl_config.named_files import load_named
from serl_config.schema import Field, config, model_validator
from serl_robots.model.robot import Box, RobotModel

FOLDER = "config/scenes"


@config(kw_only=True)
class Post:
    """An upright cylinder."""

    at: tuple[float, float] = Field(description="x and y of its axis [m]")
    radius: float = Field(gt=0.0, le=10.0, description="[m]")
    lower: float = Field(description="z of its lower end [m]")
    upper: float = Field(description="z of its upper end [m]")

    @model_validator(mode="after")
    def _has_a_volume(self) -> "Post":
        if not self.lower < self.upper:
            raise ValueError(f"expected lower below upper, found {self.lower} and {self.upper}")
        return self


@config(kw_only=True)
class Scene:
    """Boxes and posts round an arm, in the frame of its base."""

    name: str
    boxes: dict[str, Box] = Field(max_length=64, description="keep-out boxes, a table among them, by their names")
    posts: dict[str, Post] = Field(max_length=64, description="upright cylinders, by their names")

    @model_validator(mode="after")
    def _named_once(self) -> "Scene":
        twice = self.boxes.keys() & self.posts.keys()
        if twice:
            raise ValueError(f"expected each name once, found {', '.join(sorted(twice))} among boxes and among posts")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All names in it."""
        return (*self.boxes, *self.posts)


def load_scene(name: str) -> Scene:
    """Load ``config/scenes/<name>.yaml``.

    Raises:
        ConfigError: there is no such scene, or its file is wrong.
    """
    return load_named(FOLDER, name, Scene, "scene")[0]


def describe(robot: RobotModel, scene: Scene) -> mujoco.MjSpec:
    """The robot's description with the scene around its base, as MuJoCo's; geoms have the names of the scene."""
    spec = mujoco.MjSpec.from_string(robot.urdf_xml())
    base = spec.body(robot.base_frame)
    solid = {"contype": 1, "conaffinity": 1}
    for name, box in scene.boxes.items():
        middle = [0.5 * (low + high) for low, high in zip(box.lower, box.upper, strict=True)]
        size = [0.5 * (high - low) for low, high in zip(box.lower, box.upper, strict=True)]
        base.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=middle, size=size, **solid)
    for name, post in scene.posts.items():
        middle = [*post.at, 0.5 * (post.lower + post.upper)]
        size = [post.radius, 0.5 * (post.upper - post.lower), 0.0]
        base.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, pos=middle, size=size, **solid)
    return spec
