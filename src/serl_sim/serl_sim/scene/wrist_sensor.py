# SPDX-License-Identifier: Apache-2.0
"""A force and torque sensor at the wrist: what the world does to the tool.

It sits where the hand is mounted on the last link of the arm. A sensor there feels everything beyond it, so the weight
of hand, fingers and what is held rigidly is taken off, whatever the orientation. It feels inertia, as a real one does.
"""

import math
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

from serl_sim.scene.actuators import HELPER_GROUP

_SITE: Final = "wrist"
_FORCE: Final = "wrist_force"
_TORQUE: Final = "wrist_torque"


def add_wrist_sensor(spec: mujoco.MjSpec, robot: RobotModel) -> None:
    """Add the sensor to a model that has the robot."""
    last = spec.joint(robot.arm_joints[-1]).parent.name
    hand = spec.body(robot.tcp_frame)
    tool = Pose.identity()  # in the frame of `hand`, which goes up to the body that the wrist carries
    while hand.name != last and hand.parent.name not in (last, "world"):
        tool = _in_parent(hand).compose(tool)
        hand = hand.parent
    x, y, z, w = tool.quaternion.tolist()
    hand.add_site(name=_SITE, pos=tool.position, quat=(w, x, y, z), group=HELPER_GROUP)
    for name, kind in ((_FORCE, mujoco.mjtSensor.mjSENS_FORCE), (_TORQUE, mujoco.mjtSensor.mjSENS_TORQUE)):
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=_SITE)


def _in_parent(body: mujoco.MjsBody) -> Pose:
    w, x, y, z = body.quat.tolist()
    return Pose(body.pos, (x, y, z, w))


class WristSensor:
    """Reads the sensor through a low-pass of first order, which is fed in every physics step."""

    def __init__(self, model: mujoco.MjModel, cutoff: float) -> None:
        """Read the sensor of a model that has one, with a low-pass of `cutoff` [Hz]."""
        self._force, self._torque = (int(model.sensor(name).adr[0]) for name in (_FORCE, _TORQUE))
        self._site = int(model.site(_SITE).id)
        self._hand = int(model.site_bodyid[self._site])
        self._weight = float(model.body_subtreemass[self._hand]) * model.opt.gravity
        self._share = 1.0 - math.exp(-2.0 * math.pi * cutoff * model.opt.timestep)
        self._filtered = np.zeros(6)

    @property
    def wrench(self) -> NDArray[np.float64]:
        """Force [N] and torque about the tool centre point [Nm], float64 (6,), that the world exerts on the tool.

        In the axes of the tool.
        """
        return self._filtered.copy()

    def reset(self, data: mujoco.MjData) -> None:
        """Begin with what is measured in a state that was just computed, `mj_forward`."""
        self._filtered = self._measured(data)

    def update(self, data: mujoco.MjData) -> None:
        """A physics step is over."""
        self._filtered += self._share * (self._measured(data) - self._filtered)

    def _measured(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """What the tool is pushed by, without the filter and without its weight.

        MuJoCo's sensor says what the arm does to the hand, which at rest holds what the world does to it.
        """
        to_tool = data.site_xmat[self._site].reshape(3, 3).T
        weight = to_tool @ self._weight
        lever = to_tool @ (data.subtree_com[self._hand] - data.site_xpos[self._site])
        force = data.sensordata[self._force : self._force + 3]
        torque = data.sensordata[self._torque : self._torque + 3]
        return -np.concatenate([force + weight, torque + np.cross(lever, weight)])
