# SPDX-License-Identifier: Apache-2.0
"""A robot and the scene round it, as a description for MuJoCo."""

import mujoco

from serl_robots.model.robot import RobotModel
from serl_robots.model.scene import Scene


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
