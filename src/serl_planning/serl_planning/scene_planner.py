# SPDX-License-Identifier: Apache-2.0
"""Ways for the arm of a task round its scene, with times that its limits allow."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from serl_robots.control.arm_task import ArmTask
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.reachable import FREE_TOOL, ReachableOrientation
from serl_robots.model.robot import Box, RobotModel
from serl_robots.model.scene import Scene, load_scene
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.walls import NUMBERS

from serl_planning.motion_planner import MotionPlanner
from serl_planning.moveit_planner import MoveItPlanner
from serl_planning.paced_way import motion_limits, paced
from serl_planning.way import PlanningError, TimedWay, Vector, timed

Kind = Literal["ompl", "moveit", "straight"]

_TRIES: Final = 3  # ways that are searched until one keeps the limits
_AROUND: Final = 0.01  # [m] that ways keep from keep-out boxes beyond the distance, because their corners are cut
_INSIDE: Final = 1e-6
_BEYOND: Final = 0.2  # [rad] beyond its limits that a joint may be measured


@dataclass(frozen=True, kw_only=True)
class PlannerSettings:
    """How ways are planned."""

    kind: Kind = "ompl"
    patience: float = 5.0  # for a way [s]
    jerk: float = 30.0  # of each joint [rad/s^3]
    group: str = "manipulator"  # of MoveIt


class ScenePlanner:
    """Plans for the arm of one task. Not thread-safe."""

    def __init__(self, task: ArmTask, robot: RobotModel, settings: PlannerSettings, base_frame: str = "") -> None:
        """Plan within the limits of `task`.

        Args:
            task: whose scene and limits these are.
            robot: its arm.
            settings: how.
            base_frame: of poses for MoveIt; by default the robot's.

        Raises:
            ValueError: there is no such scene, or MuJoCo refuses the robot with it.
        """
        self._limits, self._period, self._settings = task.limits, task.control_period, settings
        self._kinematics = Kinematics(robot)
        self._robot = robot
        self._seed = 0
        margin = task.limits.joint_margin
        self._planner = MotionPlanner(robot, self._kinematics, scene_of(task), margin=margin)
        self._moveit: MoveItPlanner | None = None
        if settings.kind == "moveit":
            frame = base_frame or robot.base_frame
            self._moveit = MoveItPlanner(robot.arm_joints, frame, robot.tcp_frame, settings.group)

    def close(self) -> None:
        """End what was started for it."""
        if self._moveit is not None:
            self._moveit.close()

    def plan(self, start: Vector, goal: Vector | Pose, scaling: float = 1.0) -> TimedWay:
        """A way that the arm controller's filter commands as it is, a point for each control period.

        Args:
            start: joint positions (n,) [rad] at which the arm stands.
            goal: joint positions (n,) [rad], or the tool's pose in the base frame.
            scaling: of speeds, in (0, 1].

        Raises:
            PlanningError: there is none, with the reason and what to do.
        """
        self._check_start(start)
        if isinstance(goal, Pose) and len(self._robot.arm_joints) < FREE_TOOL:
            goal = ReachableOrientation(self._kinematics).nearest(goal, start)
        self._check(start, goal)
        if self._moveit is not None:
            moveit = self._moveit
            return paced(
                lambda factor: moveit.plan(start, goal, self._period, scaling * factor), self._kinematics, self._limits
            )
        problem = ""
        for _ in range(_TRIES):
            self._seed += 1
            way = self._planner.plan(
                start,
                goal,
                seed=self._seed,
                patience=self._settings.patience / _TRIES,
                allowed=self._allowed(start, goal),
                straight=self._settings.kind == "straight",
            )
            try:
                return paced(lambda factor, way=way: self._timed(way, scaling * factor), self._kinematics, self._limits)  # type: ignore[misc]
            except PlanningError as error:
                problem = str(error)
        raise PlanningError(problem)

    def _timed(self, way: Vector, scaling: float) -> TimedWay:
        limits = motion_limits(self._limits, self._kinematics, self._period, self._settings.jerk, scaling)
        return timed(way, limits, self._period, self._kinematics.tcp)

    def _check_start(self, start: Vector) -> None:
        """Refuse a start where no arm is: a way from there has no end."""
        lowest, highest = self._kinematics.lower - _BEYOND, self._kinematics.upper + _BEYOND
        for name, value, low, high in zip(self._robot.arm_joints, start, lowest, highest, strict=True):
            if not low <= value <= high:
                raise PlanningError(f"start: expected joint {name} in [{low:.2f}, {high:.2f}] rad, found {value:g}")

    def _check(self, start: Vector, goal: Vector | Pose) -> None:
        """Refuse a goal of the tool that the arm controller does not let it have."""
        if not isinstance(goal, Pose):
            self._planner.check_limits(goal)
        pose = goal if isinstance(goal, Pose) else self._kinematics.tcp(goal)
        allowed = _Room(self._limits, self._kinematics.tcp(start), 0.0)
        problem = allowed.problem(pose)
        if problem:
            raise PlanningError(f"the goal {problem}")

    def _allowed(self, start: Vector, goal: Vector | Pose) -> Callable[[Pose], bool]:
        """Where the tool may be on the way; a way that begins or ends near a keep-out box may be as near."""
        ends = (self._kinematics.tcp(start), goal if isinstance(goal, Pose) else self._kinematics.tcp(goal))
        room = _Room(self._limits, ends[0], _AROUND)
        if any(room.problem(pose) for pose in ends):
            room = _Room(self._limits, ends[0], 0.0)
        return lambda pose: not room.problem(pose)


class _Room:
    """Where the limits of an arm let its tool be: in box and cone, or no further out than where it stands."""

    def __init__(self, limits: SafetyLimits, start: Pose, around: float) -> None:
        self._low = np.minimum(limits.workspace_min, start.position) - _INSIDE
        self._high = np.maximum(limits.workspace_max, start.position) + _INSIDE
        self._reference = Pose((0.0, 0.0, 0.0), limits.reference_orientation)
        self._cone = max(limits.orientation_cone, self._reference.angle(start)) + _INSIDE
        boxes = np.array(limits.keep_out).reshape(-1, NUMBERS)
        self._numbers = boxes
        distance = limits.keep_out_distance + around
        self._below, self._above = boxes[:, :3] - distance + _INSIDE, boxes[:, 3:] + distance - _INSIDE
        within = ((start.position > self._below) & (start.position < self._above)).all(axis=1)
        self._kept = ~within  # a tool that stands in a box may leave it

    def problem(self, pose: Pose) -> str:
        """Why the tool may not have a pose; empty where it may."""
        position = pose.position
        if (position < self._low).any() or (position > self._high).any():
            low, high = self._low.round(3).tolist(), self._high.round(3).tolist()
            return (
                f"is outside the workspace box: {position.round(3).tolist()} m, allowed {low} to {high}; choose another"
            )
        angle = self._reference.angle(pose)
        if angle > self._cone:
            return (
                f"is outside the orientation cone: {angle:.3f} rad from the reference orientation, at most "
                f"{self._cone:.3f} rad allowed; choose another"
            )
        within = ((position > self._below) & (position < self._above)).all(axis=1) & self._kept
        if within.any():
            box = self._numbers[int(np.argmax(within))].tolist()
            return (
                f"is in a keep-out box: {box[:3]} to {box[3:]} m with limits.keep_out_distance round it; choose another"
            )
        return ""


def scene_of(task: ArmTask) -> Scene:
    """The scene of a task, and the keep-out boxes of its limits that are in no scene.

    Round posts are boxes here, as the arm controller's filter keeps all links out of those.

    Raises:
        ConfigError: there is no such scene, or its file is wrong.
    """
    scene = load_scene(task.scene) if task.scene else Scene(name="none", boxes={}, posts={})
    known: set[tuple[float, ...]] = {(*box.lower, *box.upper) for box in scene.keep_out}
    numbers = task.limits.keep_out
    boxes = (numbers[first : first + NUMBERS] for first in range(0, len(numbers), NUMBERS))
    others = {
        f"keep_out_{index}": Box(lower=(box[0], box[1], box[2]), upper=(box[3], box[4], box[5]))
        for index, box in enumerate(box for box in boxes if not _is_known(box, known))
    }
    posts = {name: post.box for name, post in scene.posts.items()}
    return Scene(name=scene.name, boxes={**scene.boxes, **posts, **others}, posts={})


def _is_known(box: tuple[float, ...], known: set[tuple[float, ...]]) -> bool:
    return any(all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(box, other, strict=True)) for other in known)
