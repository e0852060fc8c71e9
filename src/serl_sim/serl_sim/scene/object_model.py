# SPDX-License-Identifier: Apache-2.0
"""The objects of a task as bodies of the MuJoCo model.

A free object has a free joint of its name, what is fixed is a mocap body, so that its pose is part of the state, and
what is held is a child of the tool's body: it has no joint, cannot slip, and never meets the robot that holds it. What
slides or turns on something is a child of that, with a joint of its own name. What is flexible is a chain of bodies,
whose names are those of its poses; the first one is held, and each other one has two hinges, across it.
"""

import math
from typing import Final

import mujoco
from mujoco import mjtGeom
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_tasks.objects.flexible import Flexible
from serl_tasks.objects.scene_object import Mount, SceneObject
from serl_tasks.objects.solid import Shape, Solid

STIFF_CONTACT: Final = (0.005, 1.0)  # time constant [s], damping ratio; with the default of 0.02 s the cube creeps

# Who meets whom: contype & conaffinity. The table's are 2 and 1, those of the robot 0 and 2.
_CONTACTS: Final[dict[Mount, dict[str, int]]] = {
    "free": {"contype": 3, "conaffinity": 1},
    "fixed": {"contype": 2, "conaffinity": 1},
    "held": {"contype": 1, "conaffinity": 3},
    "sliding": {"contype": 2, "conaffinity": 1},
    "hinged": {"contype": 2, "conaffinity": 1},
}
_CABLE: Final = {"contype": 0, "conaffinity": 2}  # neither itself nor the robot

_FIRM: Final = (0.999, 0.999)  # impedance of friction in a hinge; with the default of 0.9 a lever falls in seconds

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
    elif item.joint is not None:
        mount = item.joint
        body = spec.body(mount.base).add_body(name=name, pos=mount.position)
        kind = mujoco.mjtJoint.mjJNT_SLIDE if item.slide is not None else mujoco.mjtJoint.mjJNT_HINGE
        joint = body.add_joint(name=name, type=kind, axis=mount.axis)
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        # A description has angles in degrees, unless it was read from a URDF: the compiler says which.
        in_degrees = item.hinge is not None and bool(spec.compiler.degree)
        joint.range = (0.0, math.degrees(mount.largest) if in_degrees else mount.largest)
        joint.frictionloss = mount.friction
        if item.hinge is not None:
            joint.solimp_friction[:2] = _FIRM  # what stands by friction creeps less
        joint.damping[0] = mount.damping
    else:
        body = spec.worldbody.add_body(name=name, pos=item.middle, mocap=item.mount == "fixed")
        if item.mount == "free":
            body.add_freejoint(name=name)
    bodies = [body] * len(item.solids)
    if item.flexible is not None:
        bodies = _add_links(body, name, item, item.flexible)
    for index, (body, solid) in enumerate(zip(bodies, item.solids, strict=True)):
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
            **(_CONTACTS[item.mount] if item.flexible is None else _CABLE),
        )
        if item.mass is not None:
            geom.mass = item.mass * solid.volume / item.volume


def _add_links(first: mujoco.MjsBody, name: str, item: SceneObject, flexible: Flexible) -> list[mujoco.MjsBody]:
    """Add the links of a cable behind its first one; returns all of them.

    Damping is integrated implicitly, so the chain is stable however light it is, where a bend takes more than half a
    physics step to go back.
    """
    links, length = [first], item.link_length
    for link in item.frames(name)[1:]:
        body = links[-1].add_body(name=link, pos=(0.0, 0.0, length))
        for axis, across in (("x", (1.0, 0.0, 0.0)), ("y", (0.0, 1.0, 0.0))):
            joint = body.add_joint(name=f"{link}_{axis}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=across)
            joint.stiffness[0] = flexible.joint_stiffness(length)
            joint.damping[0] = flexible.joint_damping(length)
        links.append(body)
    return links


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
