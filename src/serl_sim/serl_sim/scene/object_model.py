# SPDX-License-Identifier: Apache-2.0
"""The objects of a task as bodies of the MuJoCo model.

A free object has a free joint of its name, what is fixed is a mocap body, so that its pose is part of the state, and
what is held is a child of the tool's body: it has no joint, cannot slip, and never meets the robot that holds it. What
slides is a child of what it slides on, with a slide joint of its own name.
"""

from typing import Final

import mujoco
from mujoco import mjtGeom
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_tasks.objects.scene_object import Mount, SceneObject
from serl_tasks.objects.solid import Shape, Solid

STIFF_CONTACT: Final = (0.005, 1.0)  # time constant [s], damping ratio; with the default of 0.02 s the cube creeps

# Who meets whom: contype & conaffinity. The table's are 2 and 1, those of the robot 0 and 2.
_CONTACTS: Final[dict[Mount, dict[str, int]]] = {
    "free": {"contype": 3, "conaffinity": 1},
    "fixed": {"contype": 2, "conaffinity": 1},
    "held": {"contype": 1, "conaffinity": 3},
    "sliding": {"contype": 2, "conaffinity": 1},
}

_GEOMS: Final[dict[Shape, mjtGeom]] = {
    "box": mjtGeom.mjGEOM_BOX,
    "cylinder": mjtGeom.mjGEOM_CYLINDER,
    "capsule": mjtGeom.mjGEOM_CAPSULE,
    "sphere": mjtGeom.mjGEOM_SPHERE,
}


def add_object(spec: mujoco.MjSpec, name: str, item: SceneObject, robot: RobotModel) -> None:
    """Add an object to a model that has the robot already."""
    if item.in_tool is not None:
        pose = item.in_tool.pose
        body = spec.body(robot.tcp_frame).add_body(name=name, pos=pose.position, quat=wxyz(pose), gravcomp=1.0)
    elif item.slide is not None:
        slide = item.slide
        body = spec.body(slide.base).add_body(name=name, pos=slide.position)
        joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=slide.axis, range=(0.0, slide.reach))
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.frictionloss = slide.friction
        joint.damping[0] = slide.damping
    else:
        body = spec.worldbody.add_body(name=name, pos=item.middle, mocap=item.mount == "fixed")
        if item.mount == "free":
            body.add_freejoint(name=name)
    for index, solid in enumerate(item.solids):
        geom = body.add_geom(
            name=name if index == 0 else f"{name}_{index}",
            type=_GEOMS[solid.shape],
            size=_size(solid),
            pos=solid.position,
            quat=wxyz(solid.pose),
            rgba=(*(item.colour if solid.colour is None else solid.colour), 1.0),
            friction=(item.friction, 0.005, 0.0001),
            condim=4,
            solref=STIFF_CONTACT,
            **_CONTACTS[item.mount],
        )
        if item.mass is not None:
            geom.mass = item.mass * solid.volume / item.volume


def wxyz(pose: Pose) -> tuple[float, float, float, float]:
    """The quaternion of a pose as MuJoCo has it."""
    x, y, z, w = pose.quaternion.tolist()
    return w, x, y, z


def _size(solid: Solid) -> tuple[float, float, float]:
    """Sizes of a geom as MuJoCo has them: half edges, or radius and half length, of a capsule without its caps."""
    x, y, z = solid.half_extents
    if solid.shape == "box":
        return x, y, z
    if solid.shape == "sphere":
        return x, 0.0, 0.0
    return x, z - x if solid.shape == "capsule" else z, 0.0
