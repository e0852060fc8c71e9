# SPDX-License-Identifier: Apache-2.0
"""Ways of an arm round obstacles: straight where that is free, else by OMPL's RRT-Connect, made shorter.

Kuffner, LaValle, "RRT-Connect: An efficient approach to single-query path planning", ICRA 2000. Whether a configuration
is free is read off MuJoCo's distances between shapes.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.arm_shapes import ArmShapes
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import HOME, READY, RobotModel
from serl_robots.model.scene import Scene
from serl_robots.model.scene_shapes import describe

from serl_planning.way import PlanningError, Way, library

Vector = NDArray[np.float64]

CLEARANCE: Final = 0.01  # [m]
RESOLUTION: Final = 0.02  # [rad] of the fastest joint between two configurations of a way that are looked at
_RANGE: Final = 0.6  # [rad] of a branch of the trees
_SHORTCUTS: Final = 60
_GOALS: Final = 60  # starts of the search for configurations that have a pose
_TRIED: Final = 3  # of these, to which ways are searched
_ITERATIONS: Final = 60  # of inverse kinematics
_DAMPING: Final = 1e-4
_AT: Final = (1e-4, 1e-3)  # [m] and [rad] from a pose at which a configuration has it
_TRADE: Final = 0.1  # [m/rad] of place against orientation
_SLACK: Final = 1e-3  # [m] that shapes which are near at an end of the way may be nearer on it

Allowed = Callable[[Pose], bool]


class MotionPlanner:
    """Finds ways for one arm in one scene. Not thread-safe.

    Shapes that are nearer than the clearance where the way begins or ends, as fingers are to a table, may be as near on
    the way, and no nearer.
    """

    def __init__(self, robot: RobotModel, kinematics: Kinematics, scene: Scene, *, margin: float = 0.1) -> None:
        """Plan for the arm of `robot`, `margin` [rad] away from the limits of its joints.

        Raises:
            ValueError: MuJoCo refuses the robot's description, or the scene has the name of one of its shapes.
        """
        self._shapes = ArmShapes(robot, describe(robot, scene), scene.names)
        self._joints = robot.arm_joints
        known = [robot.configuration(name) for name in (HOME, READY)]
        self._pairs = self._shapes.pairs(known, CLEARANCE)
        self._lower, self._upper = kinematics.lower + margin, kinematics.upper - margin
        self._clearances = np.full(len(self._pairs), CLEARANCE)
        self._allowed: Allowed = lambda _: True
        self._setup: Any = None

    def plan(
        self,
        start: Vector,
        goal: Vector | Pose,
        *,
        seed: int = 0,
        patience: float = 5.0,
        allowed: Allowed | None = None,
        straight: bool = False,
    ) -> Way:
        """A way (p, n) [rad] from `start` (n,) to `goal`: straight from point to point, free everywhere.

        Args:
            start: joint positions at which it begins.
            goal: joint positions (n,), or the tool's pose in the base frame.
            seed: of what is tried by chance; OMPL's own choices differ from run to run all the same.
            patience: time that may be spent [s].
            allowed: whether the tool may have a pose, base frame; it may at the start.
            straight: whether no other way than the straight one is looked for.

        Raises:
            PlanningError: the start or the goal is not free, or there is no way that was found in time.
            MissingPlanner: it takes more than a straight line, and OMPL is not installed.
        """
        deadline = time.monotonic() + patience
        self._allowed = (lambda _: True) if allowed is None else allowed
        self._clearances = np.full(len(self._pairs), CLEARANCE)
        self._admit(start, "the start")
        rng = np.random.default_rng(seed)
        if isinstance(goal, Pose):
            ends = list(itertools.islice(self._configurations(goal, start, rng, deadline), _TRIED))
            if not ends:
                raise PlanningError(
                    f"no configuration with the tool at {np.round(goal.position, 3).tolist()} is free of the scene "
                    "and of the arm itself"
                )
        else:
            self._admit(goal, "the goal")
            self.check_limits(goal)
            ends = [goal]
        for end in ends:
            if self._is_free_between(start, end):
                return np.array([start, end])
        if straight:
            raise PlanningError("the straight way is not free; launch with planner:=ompl, which goes round")
        for left in range(len(ends), 0, -1):  # each has its share of the time that is left
            now = time.monotonic()
            way = self._search(start, ends[-left], (deadline - now) / left)
            if way is not None:
                return self._shortened(way, rng, deadline)
        raise PlanningError("no way round the obstacles was found in time; both ends are free")

    def is_free(self, positions: Vector) -> bool:
        """Whether all shapes keep their clearance where the arm's joints are (n,) [rad]."""
        self._shapes.place(positions)
        return not self._shapes.any_nearer(self._pairs, np.full(len(self._pairs), CLEARANCE))

    def check_limits(self, goal: Vector) -> None:
        """Refuse joint positions (n,) [rad] that are too near to the limits of joints.

        Raises:
            PlanningError: with the joint.
        """
        for name, value, low, high in zip(self._joints, goal, self._lower, self._upper, strict=True):
            if not low - 1e-9 <= value <= high + 1e-9:
                raise PlanningError(f"joint {name}: expected a position in [{low:.4f}, {high:.4f}], found {value:.4f}")

    # Inside

    def _is_open(self, positions: Vector) -> bool:
        """Whether a way may go through joint positions (n,) [rad]."""
        self._shapes.place(positions)
        if not self._allowed(self._tool()):
            return False
        return not self._shapes.any_nearer(self._pairs, self._clearances)

    def _tool(self) -> Pose:
        return self._shapes.in_base(self._shapes.tcp())

    def _admit(self, positions: Vector, what: str) -> None:
        """Let shapes be as near as they are there. Refuse those that are in each other."""
        self._shapes.place(positions)
        near = {(a, b): gap for gap, a, b, _, _ in self._shapes.near(self._pairs, CLEARANCE)}
        for index, pair in enumerate(self._pairs.tolist()):
            gap = near.get(tuple(pair))
            if gap is None:
                continue
            if gap < 0.0:
                first, second = (self._shapes.called(geom) for geom in pair)
                raise PlanningError(f"{what} is not free: {first} is {-1e3 * gap:.0f} mm inside of {second}")
            self._clearances[index] = min(self._clearances[index], max(gap - _SLACK, 0.0))
        if not self._allowed(self._tool()):
            raise PlanningError(f"{what} is outside of where the tool may be")

    def _is_free_between(self, start: Vector, end: Vector) -> bool:
        """Whether the straight line is free; its middle is looked at first, where obstacles are met soonest."""
        count = int(np.ceil(float(np.abs(end - start).max()) / RESOLUTION)) + 1
        order = sorted(range(1, count), key=lambda index: -(index & -index))
        return all(self._is_open(start + index / count * (end - start)) for index in order)

    def _configurations(self, goal: Pose, start: Vector, rng: np.random.Generator, deadline: float) -> Iterator[Vector]:
        """Free configurations with the tool at a pose: that near the start first."""
        for attempt in range(_GOALS):
            if time.monotonic() > deadline:
                return
            seed = start if attempt == 0 else rng.uniform(self._lower, self._upper)
            q = self._solved(goal, seed.clip(self._lower, self._upper))
            if q is not None and self._is_open(q):
                yield q

    def _solved(self, goal: Pose, q: Vector) -> Vector | None:
        """Joint positions (n,) with the tool at the pose, by damped least squares from `q`; None if it gets stuck."""
        shapes, world = self._shapes, self._shapes.in_world(goal)
        weights = np.array([1.0] * 3 + [_TRADE] * 3)
        for _ in range(_ITERATIONS):
            shapes.place(q)
            tcp = shapes.tcp()
            error = np.concatenate([world.position - tcp.position, tcp.rotation_vector_to(world)])
            if np.linalg.norm(error[:3]) < _AT[0] and np.linalg.norm(error[3:]) < _AT[1]:
                return q
            jacobian, left = weights[:, None] * shapes.jacobian(), weights * error
            damped = jacobian @ jacobian.T + (_DAMPING + 0.1 * float(left @ left)) * np.eye(6)
            step = jacobian.T @ np.linalg.solve(damped, left)
            q = (q + step * min(1.0, 0.5 / max(float(np.abs(step).max()), 1e-9))).clip(self._lower, self._upper)
        return None

    def _search(self, start: Vector, goal: Vector, patience: float) -> Way | None:
        """A way (p, n) that OMPL finds within `patience` [s], if it does."""
        base, geometric, util = (library(f"ompl.{part}") for part in ("base", "geometric", "util"))
        count = len(start)
        if self._setup is None:
            util.setLogLevel(util.LogLevel.LOG_ERROR)
            space = base.RealVectorStateSpace(count)
            self._setup = geometric.SimpleSetup(space)
            self._setup.setStateValidityChecker(lambda state: self._is_open(np.array([state[i] for i in range(count)])))
            planner = geometric.RRTConnect(self._setup.getSpaceInformation())
            planner.setRange(_RANGE)
            self._setup.setPlanner(planner)
        setup = self._setup
        setup.clear()
        space = setup.getStateSpace()
        bounds = base.RealVectorBounds(count)
        for index in range(count):  # an arm that begins beyond its margin comes back
            bounds.setLow(index, min(float(self._lower[index]), float(start[index])))
            bounds.setHigh(index, max(float(self._upper[index]), float(start[index])))
        space.setBounds(bounds)
        setup.getSpaceInformation().setStateValidityCheckingResolution(RESOLUTION / space.getMaximumExtent())
        ends = []
        for positions in (start, goal):
            state = space.allocState()
            for index in range(count):
                state[index] = float(positions[index])
            ends.append(state)
        setup.setStartAndGoalStates(*ends)
        if patience <= 0.0 or not setup.solve(patience) or not setup.haveExactSolutionPath():
            return None
        return np.array([[state[i] for i in range(count)] for state in setup.getSolutionPath().getStates()])

    def _shortened(self, way: Way, rng: np.random.Generator, deadline: float) -> Way:
        """The way with shortcuts between points of it that see each other, and without points that need not be."""
        points = [*way]
        for _ in range(_SHORTCUTS):
            if len(points) < 3 or time.monotonic() > deadline:
                break
            first, last = sorted(rng.choice(len(points), 2, replace=False).tolist())
            if last - first > 1 and self._is_free_between(points[first], points[last]):
                del points[first + 1 : last]
        return np.array(points)
