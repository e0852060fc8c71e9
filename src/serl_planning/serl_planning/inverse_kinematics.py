# SPDX-License-Identifier: Apache-2.0
"""Differential inverse kinematics: the next joint positions on the way to a tool pose, within limits.

One step is a least-squares problem in the joint step with linear limits. What is wanted comes from the
Levenberg-Marquardt method, whose damping falls with the error, so that it converges fast where the pose can be reached
and rests where it cannot (Sugihara, "Solvability-unconcerned inverse kinematics by the Levenberg-Marquardt method",
IEEE T-RO 27(5), 2011). The limits are those of joint positions, velocities and accelerations, and of the distances
between links; speeds near a limit are those from which the joint can still brake before it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from serl_robots.model.arm_shapes import ArmShapes
from serl_robots.model.kinematics import Joints, Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.reachable import FREE_TOOL
from serl_robots.model.robot import HOME, READY, RobotModel

from serl_planning.constrained_step import Infeasible, nearest_within

Vector = NDArray[np.float64]

_LENGTH: Final = 0.1  # [m] of error of the place that counts as much as one radian of that of the orientation
_REACH: Final = 0.3  # [m] in the condition number: there a metre and a radian are as much for an arm of half a metre
_MINOR: Final = 0.01  # the same, relative, of an arm that cannot turn its tool freely: the place comes first
_LEAST_DAMPING: Final = 1e-7  # [m^2]
_BRAKING_SHARE: Final = 0.5  # of what the joints can brake together, along a line whose direction changes
_KNOWN_NEAR: Final = 2.0  # of `link_distance`: links so near in a named configuration are always so, and are not minded
_TIGHT: Final = 2.0  # of `link_distance`: where the nearest points may jump, so that it is looked where a step leads
_TOLERANCE: Final = 2e-4  # [m] of the distance between links, whose change with the joints is not linear
_HALVINGS: Final = 4
_CLOSE: Final = 1e-7  # [m] at which a limit of a distance acts
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class IkLimits:
    """What a step of the joints may do, and how near to each other links and singular configurations may come."""

    velocity_scaling: float = 0.5  # share of the URDF's joint velocity limits
    acceleration: float = 10.0  # of each joint [rad/s^2]
    joint_margin: float = 0.1  # distance kept from joint limits [rad]
    link_distance: float = 0.01  # kept between links [m]
    link_notice: float = 0.05  # distance of links from which on it is minded [m]
    condition_slow: float = 17.0  # condition number from which on a tool that gets nearer to singular slows down
    condition_stop: float = 30.0  # at which it stands
    posture_gain: float = 1.0  # share of the way to the preferred posture in a second, of arms with a joint too many

    def __post_init__(self) -> None:
        """Refuses numbers without sense.

        Raises:
            ValueError: a share, a distance or an order is wrong.
        """
        if not 0.0 < self.velocity_scaling <= 1.0:
            raise ValueError(f"velocity_scaling: expected a share in (0, 1], found {self.velocity_scaling}")
        for name in ("acceleration", "link_distance", "condition_slow"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a positive number, found {getattr(self, name)}")
        for name in ("joint_margin", "posture_gain"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a number from 0 on, found {getattr(self, name)}")
        if not self.link_distance < self.link_notice:
            raise ValueError(
                f"expected link_distance below link_notice, found {self.link_distance} and {self.link_notice}"
            )
        if not self.condition_slow < self.condition_stop:
            raise ValueError(
                f"expected condition_slow below condition_stop, found {self.condition_slow} and {self.condition_stop}"
            )


class InverseKinematics:
    """Follows tool poses with the joints of one arm, a step each period. Not thread-safe.

    An arm of fewer than six joints brings its tool to the place, and there as near to the orientation as it can. One of
    more than six goes to the posture `ready` with what the tool leaves free.

    Attributes:
        acting: names of what kept the last step from what was wanted: `joint_limits`, `velocity`, `acceleration`,
            `self_collision`, `singularity`.
    """

    def __init__(
        self, robot: RobotModel, kinematics: Kinematics, period: float, limits: IkLimits | None = None
    ) -> None:
        """Follow with the arm of `robot`, `period` [s] between two steps.

        Raises:
            ValueError: the period is not positive, or MuJoCo refuses the robot's description.
        """
        if not (np.isfinite(period) and period > 0.0):
            raise ValueError(f"expected a positive period, found {period}")
        self.limits = limits = IkLimits() if limits is None else limits
        self.acting: tuple[str, ...] = ()
        self._shapes = ArmShapes(robot)
        self._count = count = len(robot.arm_joints)
        known = [robot.configuration(name) for name in (HOME, READY)]
        self._pairs = self._shapes.pairs(known, _KNOWN_NEAR * limits.link_distance)
        self._lower = kinematics.lower + limits.joint_margin
        self._upper = kinematics.upper - limits.joint_margin
        self._fastest = limits.velocity_scaling * kinematics.velocity * period
        self._change = limits.acceleration * period * period  # of a step against the one before [rad]
        turning = _LENGTH if count >= FREE_TOOL else _MINOR * _LENGTH
        self._weights = np.array([1.0] * 3 + [turning] * 3)
        self._conditioned = slice(0, 6 if count >= FREE_TOOL else 3)
        self._lengths = np.array([1.0] * 3 + [_REACH] * 3)[self._conditioned, None]
        self._posture = np.array(robot.configuration(READY)).clip(self._lower, self._upper)
        self._posture_gain = min(limits.posture_gain * period, 1.0) if count > FREE_TOOL else 0.0
        self._unit = np.eye(count)
        self._last = np.zeros(count)  # step
        self._slowness = 1.0
        self._tight: list[tuple[int, int, float]] = []  # geoms that are near each other, and their distance [m]
        self._answer: Vector | None = None

    def reset(self) -> None:
        """Forgets the last step: the next one starts at rest."""
        self._answer = None

    def step(self, joints: Joints, target: Pose) -> Vector:
        """Joint positions (n,) [rad] for one period from now, on the way to `target`.

        Args:
            joints: positions (n,) [rad] that were commanded last. If they are not those that the last step returned,
                the arm is taken to be at rest there.
            target: tool pose that is wanted, base frame.

        Raises:
            ValueError: the joints are too many, too few or not finite.
        """
        q = np.array(joints, dtype=np.float64)
        if q.shape != (self._count,) or not np.isfinite(q).all():
            raise ValueError(f"expected {self._count} finite joint positions, found {q}")
        if self._answer is None or not np.array_equal(q, self._answer):
            self._last = np.zeros(self._count)
        shapes = self._shapes
        shapes.place(q)
        tcp, goal = shapes.tcp(), shapes.in_world(target)
        jacobian = shapes.jacobian()
        error = np.concatenate([goal.position - tcp.position, tcp.rotation_vector_to(goal)])
        desired, factor = self._desired(q, jacobian, error)
        low, high, braked = self._bounds(q, desired)
        step = self._kept_apart(q, self._within(desired, factor, low, high))
        if self._nears_singular(q, jacobian, step):
            step = (self._slowness * step).clip(np.minimum(braked, step), np.maximum(braked, step))
        self._last, self._answer = step, q + step
        return self._answer.copy()

    # Inside

    def _desired(self, q: Vector, jacobian: NDArray[np.float64], error: Vector) -> tuple[Vector, Vector]:
        """The step (n,) that is wanted, and the Cholesky factor (n, n) of the metric in which it is."""
        weighted, left = self._weights[:, None] * jacobian, self._weights * error
        damping = float(left @ left) + _LEAST_DAMPING
        normal = weighted.T @ weighted
        normal.flat[:: self._count + 1] += damping
        factor, _ = cho_factor(normal, lower=True, check_finite=False)
        wanted: Vector = cho_solve((factor, True), weighted.T @ left, check_finite=False)
        if self._posture_gain:
            # damping / (J'J + damping) takes away what moves the tool
            aside = self._posture_gain * damping * (self._posture - q)
            wanted = wanted + cho_solve((factor, True), aside, check_finite=False)
        way = np.abs(wanted)
        allowed = np.minimum(self._fastest, _stoppable(way, self._change))
        excess = float((way / np.maximum(allowed, _ROUNDING)).max())
        self.acting = ("velocity",) if bool((way > self._fastest).any()) else ()
        return (wanted / excess if excess > 1.0 else wanted), np.tril(factor)

    def _bounds(self, q: Vector, desired: Vector) -> tuple[Vector, Vector, Vector]:
        """Smallest and largest step of each joint, and the one that brakes it, (n,) each. Braking is always allowed."""
        last, change = self._last, self._change
        braked = np.sign(last) * np.maximum(np.abs(last) - change, 0.0)
        low = -np.minimum(self._fastest, _stoppable(q - self._lower, change))
        high = np.minimum(self._fastest, _stoppable(self._upper - q, change))
        if bool(((desired < low - _ROUNDING) | (desired > high + _ROUNDING)).any()):
            self.acting += ("joint_limits",)
        if bool((np.abs(desired - last) > change + _ROUNDING).any()):
            self.acting += ("acceleration",)
        low = np.minimum(np.maximum(low, last - change), braked)
        high = np.maximum(np.minimum(high, last + change), braked)
        return low, high, braked

    def _within(self, desired: Vector, factor: Vector, low: Vector, high: Vector) -> Vector:
        """The step (n,) nearest to the desired one that all limits allow."""
        rows, most = self._distances()
        inside = bool(((desired >= low) & (desired <= high)).all())
        if inside and bool((rows @ desired <= most).all()):
            return desired
        every = np.vstack([self._unit, -self._unit, rows])
        for bounds in ((low, high), (-self._fastest, self._fastest)):
            limits = np.concatenate([bounds[1], -bounds[0], most]) + _ROUNDING
            try:
                step = nearest_within(factor, desired, every, limits)
            except Infeasible:  # no link comes too near, even where the joints have to brake harder for that
                self.acting += ("self_collision",)
                continue
            if "self_collision" not in self.acting and bool((rows @ step > most - _CLOSE).any()):
                self.acting += ("self_collision",)
            return step.clip(*bounds)
        raise AssertionError("standing still is within all limits of distances and velocities")

    def _distances(self) -> tuple[NDArray[np.float64], Vector]:
        """How much nearer each joint brings the links that are near (k, n), and how much nearer they may come (k,)."""
        shapes, limits = self._shapes, self.limits
        near = shapes.near(self._pairs, limits.link_notice)
        self._tight = [(a, b, gap) for gap, a, b, _, _ in near if gap < _TIGHT * limits.link_distance]
        rows, most = np.empty((len(near), self._count)), np.empty(len(near))
        for index, (gap, a, b, at_a, at_b) in enumerate(near):
            rows[index] = -shapes.approach(a, b, at_a, at_b, gap)
            braking = _BRAKING_SHARE * self._change * np.abs(rows[index]).sum() + 1e-12
            most[index] = _stoppable(np.array(gap - limits.link_distance), braking)
        return rows, most

    def _kept_apart(self, q: Vector, step: Vector) -> Vector:
        """The step (n,), or a part of it, after which no links that are near are nearer than they may be."""
        if not self._tight:
            return step
        pairs = np.array([(a, b) for a, b, _ in self._tight], dtype=np.intp)
        before = {(a, b): gap for a, b, gap in self._tight}
        least = self.limits.link_distance - _TOLERANCE
        for _ in range(_HALVINGS):
            self._shapes.place(q + step)
            if all(gap > min(least, before[a, b] - _ROUNDING) for gap, a, b, _, _ in self._shapes.near(pairs, least)):
                return step
            self.acting += ("self_collision",) if "self_collision" not in self.acting else ()
            step = 0.5 * step
        return np.zeros(self._count)

    def _nears_singular(self, q: Vector, jacobian: NDArray[np.float64], step: Vector) -> bool:
        """Whether the step has to be slower, by `_slowness`, because it leads to where the tool cannot follow."""
        before = self._condition(jacobian)
        if before <= self.limits.condition_slow:
            return False
        self._shapes.place(q + step)
        after = self._condition(self._shapes.jacobian())
        slow, stop = self.limits.condition_slow, self.limits.condition_stop
        self._slowness = min(max((stop - after) / (stop - slow), 0.0), 1.0)
        if after <= before or self._slowness == 1.0:
            return False
        self.acting += ("singularity",)
        return True

    def _condition(self, jacobian: NDArray[np.float64]) -> float:
        """Condition number of the part of the Jacobian that the arm follows, lengths in units of `_REACH`."""
        part = jacobian[self._conditioned] * self._lengths
        squared = np.linalg.eigvalsh(part @ part.T)
        return float(np.sqrt(squared[-1] / max(float(squared[0]), 1e-18)))


def _stoppable(distance: Vector, change: float | Vector) -> Vector:
    """Largest step from which a joint stops within `distance` if each step is shorter by `change` than the one before.

    Both in the same unit; the exact discrete law of `serl_robots.safety.braking.stoppable_speed`. 0 beyond the limit.
    """
    left = np.maximum(distance, 0.0)
    periods = np.floor(0.5 * (np.sqrt(1.0 + 8.0 * left / change) - 1.0))
    allowed: Vector = left / (periods + 1.0) + 0.5 * change * periods
    return allowed
