# SPDX-License-Identifier: Apache-2.0
"""Press a flexible cable, which is held by its end, into a clip whose place is known only roughly; a sparse reward."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.control.action import TRANSLATION
from serl_robots.model.pose import Pose, Vector3, quaternion_exp

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.objects.fitting import fits, places_around, points_of
from serl_tasks.objects.scene_object import SceneObject
from serl_tasks.objects.solid import Solid
from serl_tasks.task import Judgement, Task, with_noise

CABLE = "cable"
CLIP = "clip"


@config(kw_only=True)
class RouteSuccess:
    """When the cable counts as clipped in."""

    depth: float = Field(gt=0.0, description="of its axis below the rim of the clip, at both ends of the clip [m]")
    within: float = Field(gt=0.0, description="largest distance of its axis from the middle of the slot there [m]")


@register("route_cable")
@config(kw_only=True)
class RouteCable(Task):
    """Reward 1 and the end when the held `cable` goes deep through the slot of the fixed `clip`, else 0."""

    rim: Vector3 = Field(description="middle of the slot's upper end, frame of the clip; the slot goes along x [m]")
    slot_length: float = Field(gt=0.0, description="of the slot, along x of the clip [m]")
    success: RouteSuccess

    @model_validator(mode="after")
    def _has_cable_and_clip(self) -> RouteCable:
        cable, clip = self.objects.get(CABLE), self.objects.get(CLIP)
        if cable is None or cable.flexible is None:
            found = "none" if cable is None else "one that is not"
            raise ValueError(f"objects: expected one named {CABLE!r} that is flexible, found {found}")
        if clip is None or clip.mount != "fixed":
            found = "none" if clip is None else f"one that is {clip.mount}"
            raise ValueError(f"objects: expected one named {CLIP!r} whose mount is fixed, found {found}")
        if self.action.names != TRANSLATION:
            raise ValueError(f"action.names: expected dx dy dz, found {' '.join(self.action.names)}")
        self._check_fit(cable, clip)
        return self

    def _check_fit(self, cable: SceneObject, clip: SceneObject) -> None:
        """Raise ValueError where no cable can be where it counts as clipped in."""
        diameter, length = cable.size
        if length < self.slot_length:
            raise ValueError(
                f"slot_length: expected at most the {1e3 * length:.1f} mm of the {CABLE}, found "
                f"{1e3 * self.slot_length:.1f} mm"
            )
        x, y, z = self.rim
        axis = z - self.success.depth
        lying = Pose((x, y, axis), quaternion_exp((0.0, 0.5 * math.pi, 0.0)))
        piece = Solid(shape="capsule", size=(diameter, max(diameter, self.slot_length)))
        ground = float(points_of(clip.solids)[:, 2].min())
        if axis - 0.5 * diameter < ground or not fits(
            [piece], clip.solids, places_around(lying, self.success.within, [0.0])
        ):
            raise ValueError(
                f"success.depth: expected a {CABLE} of {1e3 * diameter:.1f} mm that fits into the slot of the {CLIP}, "
                f"which it does not {1e3 * self.success.depth:.1f} mm below the rim at {list(self.rim)} m; make the "
                f"slot between objects.{CLIP}.parts wider or success.depth less, or say where the slot is by 'rim'"
            )

    def places(self, objects: Mapping[str, Pose]) -> NDArray[np.float64]:
        """Where the axis of the cable passes the ends of the slot, (2, 3) relative to the rim, frame of the clip [m].

        At its near end, then at its far one; NaN where it does not get there.
        """
        names = (CABLE, *self.objects[CABLE].points(CABLE))
        clip = objects[CLIP].inverse()
        points = np.array([clip.transform(objects[name].position) for name in names]) - self.rim
        return np.array([_crossing(points, side * 0.5 * self.slot_length) for side in (-1.0, 1.0)])

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        places = self.places(objects)
        # NaN is in no slot
        success = bool(
            (np.abs(places[:, 1]) <= self.success.within).all() and (places[:, 2] <= -self.success.depth).all()
        )
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """How far the cable is from where it is clipped in, at the end of the slot where that is farther [m]."""
        places = self.places(objects)
        if np.isnan(places).any():
            return float(np.linalg.norm(objects[CLIP].transform(self.rim) - objects["tcp"].position))
        side = np.maximum(np.abs(places[:, 1]) - self.success.within, 0.0)
        height = np.maximum(places[:, 2] + self.success.depth, 0.0)
        return float(np.hypot(side, height).max())

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> RouteExpert:
        """See :meth:`Task.make_expert`."""
        return RouteExpert(self, rng, noise)


def _crossing(points: NDArray[np.float64], x: float) -> NDArray[np.float64]:
    """Where a line through points (n, 3) first crosses the plane at `x`, (3,); NaN where it does not."""
    before, behind = points[:-1], points[1:]
    crossed = np.flatnonzero((before[:, 0] <= x) & (behind[:, 0] > x))
    if not len(crossed):
        return np.full(3, np.nan)
    a, b = before[crossed[0]], behind[crossed[0]]
    return a + (x - a[0]) / (b[0] - a[0]) * (b - a)


class RouteExpert:
    """Goes beside the clip with the cable above the slot, down, and where that was wrong slowly to and fro across it.

    What it remembers is how far it has come with its search.
    """

    ABOVE = 0.010  # height of the cable above the rim at which it comes from the side [m]
    ALIGNED = 0.002  # largest distance from where it should be at which it goes down [m]
    DEEP = 0.020  # how far below the rim the tool presses [m]
    LYING = 0.006  # by which the cable bends where it lies on the clip [m]
    STEP = 0.001  # way across in a step of the search [m]
    FARTHEST = 0.015  # that it searches, to either side [m]
    BESIDE = 0.03  # distance from where it should be from which the clip may be in the way [m]
    CLEAR = 0.03  # height above the rim at which the gripper passes over the clip [m]

    def __init__(self, task: RouteCable, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._rng, self._noise = rng, noise
        self._task = task
        self._scale = np.array(task.action.scale)
        self._beside = 0.5 * task.slot_length + 0.03
        self.reset()

    def reset(self) -> None:
        """Begin an episode, and a search."""
        self._searched = 0

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        clip = objects[CLIP]
        place = clip.inverse().transform(arm.tcp.position) - self._task.rim
        bend = float(np.nanmin(self._task.places(objects)[:, 2], initial=np.inf)) - float(place[2])
        way = clip.rotation_matrix() @ self._way(place, bend)
        commanded = arm.tcp.position if arm.commanded is None else arm.commanded.position
        way = self._task.in_action_frame(arm.tcp.position + way - commanded, arm)
        return with_noise(np.clip(way / self._scale, -1.0, 1.0), self._noise, self._rng)

    def _way(self, place: NDArray[np.float64], bend: float) -> NDArray[np.float64]:
        """Way from the measured tool to where it should be commanded [m].

        Args:
            place: (3,) of the tool relative to the rim, as it is known [m].
            bend: height of the cable at the clip above the tool [m].
        """
        x, y, z = place.tolist()
        along, height = -self._beside - x, self.ABOVE - z
        beside = math.hypot(along, y)
        if beside > self.BESIDE:
            self._searched = 0
            return np.array((0.0, 0.0, self.CLEAR - z) if z < 0.5 * self.CLEAR else (along, -y, self.CLEAR - z))
        if z < 0.5 * self.ABOVE or beside < self.ALIGNED:
            height = -self.DEEP - z
        if bend > self.LYING:
            self._searched += 1
        across = self.FARTHEST * _triangle(self._searched * self.STEP / self.FARTHEST)
        return np.array((along, across - y, height))


def _triangle(way: float) -> float:
    """Where one is in [-1, 1] who goes to and fro between the ends, `way` after the middle."""
    return 1.0 - abs((way + 1.0) % 4.0 - 2.0)
