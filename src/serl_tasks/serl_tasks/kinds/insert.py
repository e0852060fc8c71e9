# SPDX-License-Identifier: Apache-2.0
"""Put what the gripper holds into a hole whose place is known only roughly, with a sparse reward."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.control.action import TRANSLATION
from serl_robots.model.pose import Pose, Vector3

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.objects.fitting import fits, free_width, places_around, points_of
from serl_tasks.task import Judgement, Task, with_noise

PEG = "peg"
SOCKET = "socket"

_NO_DEPTH = 0.002  # [m] below the rim from which the tip counts as inside


@config(kw_only=True)
class InsertSuccess:
    """When the peg counts as inserted."""

    depth: float = Field(gt=0.0, description="of its tip below the rim of the hole [m]")
    within: float = Field(gt=0.0, description="largest distance of the tip from the axis of the hole [m]")


@register("insert")
@config(kw_only=True)
class Insert(Task):
    """Reward 1 and the end when the held `peg` is deep enough in the hole of the fixed `socket`, else 0."""

    tip: Vector3 = Field(description="middle of the peg's end that goes in, frame of the peg [m]")
    hole: Vector3 = Field(description="middle of the hole's rim, whose axis is z, frame of the socket [m]")
    success: InsertSuccess

    @model_validator(mode="after")
    def _has_peg_and_socket(self) -> Insert:
        for name, mount in ((PEG, "held"), (SOCKET, "fixed")):
            found = self.objects[name].mount if name in self.objects else "none"
            if found != mount:
                raise ValueError(f"objects: expected one named {name!r} whose mount is {mount}, found {found}")
        if self.action.names not in (TRANSLATION, (*TRANSLATION, "rz")):
            raise ValueError(f"action.names: expected dx dy dz, and rz or not, found {' '.join(self.action.names)}")
        self._check_fit()
        return self

    def _check_fit(self) -> None:
        """Raise ValueError where the peg cannot be where it counts as inserted."""
        peg, socket = self.objects[PEG], self.objects[SOCKET]
        inserted = Pose(np.array(self.hole) - (0.0, 0.0, self.success.depth))  # of the tip, frame of the socket
        tool = Pose((0.0, 0.0, 0.0), self.limits.reference_orientation)
        turned = Pose((0.0, 0.0, 0.0), tool.compose(self.tip_in_tool).quaternion)
        middle = inserted.compose(turned).compose(Pose(self.tip).inverse())
        turns = np.radians(np.arange(0.0, 180.0, 3.0)).tolist() if "rz" in self.action.names else [0.0]
        if fits(peg.solids, socket.solids, places_around(middle, self.success.within, turns)):
            return
        # Above the tip, for it may stand on the ground of its hole.
        height = np.add(inserted.position, (0.0, 0.0, 0.5 * self.success.depth))
        hole = " x ".join(f"{1e3 * free_width(socket.solids, height, axis):.1f}" for axis in (0, 1))
        size = " x ".join(f"{1e3 * length:.1f}" for length in np.ptp(points_of(peg.solids), axis=0).tolist())
        raise ValueError(
            f"objects: expected a {PEG} that fits the hole of the {SOCKET}, found one of {size} mm for a hole of "
            f"{hole} mm at {list(self.hole)} m: {1e3 * self.success.depth:.1f} mm below its rim they would be inside "
            f"of each other; make objects.{PEG} thinner, the hole between objects.{SOCKET}.parts wider or "
            "success.depth less, or say where the hole is by 'hole'"
        )

    @property
    def tip_in_tool(self) -> Pose:
        """The peg's end in the frame of the tool; turned as the peg is."""
        mount = self.objects[PEG].in_tool
        assert mount is not None  # it is held
        return mount.pose.compose(Pose(self.tip))

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        way = self._tip_from_rim(objects)
        inside = math.hypot(way[0], way[1]) <= self.success.within
        success = bool(inside and -way[2] >= self.success.depth)
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Way of the tip to where it counts as inserted [m]."""
        way = self._tip_from_rim(objects)
        return math.hypot(way[0], way[1], max(0.0, way[2] + self.success.depth))

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> InsertExpert:
        """See :meth:`Task.make_expert`."""
        return InsertExpert(self, rng, noise)

    def _tip_from_rim(self, objects: Mapping[str, Pose]) -> list[float]:
        """The peg's tip in the frame of the hole [m]."""
        tip = objects[PEG].transform(self.tip)
        return (objects[SOCKET].inverse().transform(tip) - self.hole).tolist()


class InsertExpert:
    """Goes above where the hole should be, down, and where that was wrong searches by a spiral under light pressure.

    With `rz` it turns the peg as the hole should be turned, and to and fro about that while it searches.
    What it remembers is how far it has come on the spiral.
    """

    ABOVE = 0.006  # height of the tip above the rim at which it comes from the side [m]
    ALIGNED = 0.0015  # largest distance from where the hole should be at which it goes down [m]
    SURFACE = 0.003  # height of the tip above the rim at which it may touch [m]
    PRESSURE = 0.005  # how far below the measured tool the commanded one presses [m]
    PITCH = 0.001  # distance of the turns of the spiral [m]
    ARC = 0.0025  # way of a step along it [m]
    SWAY = 0.10  # largest turn away from where the hole should be, while it searches [rad]
    SWAY_STEP = 0.8  # phase of the swaying that passes in a step [rad]
    TURNED = 0.05  # largest difference of turns at which it goes down [rad]

    def __init__(self, task: Insert, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._rng, self._noise = rng, noise
        self._task = task
        self._scale = np.array(task.action.scale)
        self._turns = len(task.action) > len(TRANSLATION)
        self._tip = task.tip_in_tool.position
        self._hole = task.hole
        self.reset()

    def reset(self) -> None:
        """Begin an episode, and a spiral."""
        self._searched = 0

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        rim = objects[SOCKET].transform(self._hole)
        tip = arm.tcp.transform(self._tip)
        commanded = arm.tcp.position if arm.commanded is None else arm.commanded.position
        turn = self._turn(arm, objects[SOCKET]) if self._turns else 0.0
        goal = arm.tcp.position + self._way(tip, rim, turn)
        way = self._task.in_action_frame(goal - commanded, arm)
        if self._turns:
            if tip[2] - rim[2] <= self.SURFACE:
                turn += self.SWAY * math.sin(self.SWAY_STEP * self._searched)
            around = self._task.in_action_frame(np.array((0.0, 0.0, turn)), arm)
            way = np.append(way, around[2])
        return with_noise(np.clip(way / self._scale, -1.0, 1.0), self._noise, self._rng)

    def _turn(self, arm: ArmSample, socket: Pose) -> float:
        """Turn about the vertical from the commanded peg to the socket as it is known [rad]."""
        mount = self._task.tip_in_tool
        peg = (arm.tcp if arm.commanded is None else arm.commanded).compose(mount)
        (ax, ay, _), (bx, by, _) = peg.rotation_matrix()[:, 0], socket.rotation_matrix()[:, 0]
        return math.atan2(ax * by - ay * bx, ax * bx + ay * by)

    def _way(self, tip: NDArray[np.float64], rim: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
        """Way from the measured tool to where it should be commanded [m], where `turn` [rad] is still to go."""
        x, y, height = (tip - rim).tolist()
        if height < -_NO_DEPTH:
            return np.array((0.0, 0.0, -self._scale[2]))  # the hole leads
        if height > self.SURFACE:
            aligned = math.hypot(x, y) < self.ALIGNED and abs(turn) < self.TURNED
            return np.array((-x, -y, -height - self.PRESSURE if aligned or self._searched else self.ABOVE - height))
        self._searched += 1
        # Turns at the distance of the pitch, and steps of the same length: r = p a / 2 pi, s = r da.
        angle = math.sqrt(4.0 * math.pi * self.ARC * self._searched / self.PITCH)
        radius = self.PITCH * angle / (2.0 * math.pi)
        aim_x, aim_y = radius * math.cos(angle), radius * math.sin(angle)
        return np.array((aim_x - x, aim_y - y, -self.PRESSURE))
