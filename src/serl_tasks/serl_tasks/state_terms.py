# SPDX-License-Identifier: Apache-2.0
"""The terms that a task's state vector may be made of, each with its size, its unit and its frame.

An object ``cube`` of the task adds the terms of `object_terms("cube")`.

Where a task's frame is ``base``, everything is in the frame of the arm's base. Where it is ``tool``, poses are relative
to the tool pose at the start of the episode; velocities and ways from the tool have the axes that it has now. This is
the relative frame of SERL (Luo et al. 2024, arXiv:2401.16013). `Moment` is where it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from serl_robots.control.action import Frame
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample

LAST_ACTION = "last_action"

JOINT_TERMS = ("joint_positions", "joint_velocities")
WRENCH_TERMS = ("tcp_force", "tcp_torque")
ONE_FOR_EACH_JOINT = 0
_OF_A_TOOL = "_from_tcp"

TermFrame = Literal["start", "tool", "-"]


@dataclass(frozen=True)
class Moment:
    """What is known at one moment of an episode: what terms are computed from."""

    arm: ArmSample
    objects: Mapping[str, Pose]
    """Poses by name, base frame."""
    start: Pose
    """The tool at the start of the episode, as it was measured, base frame."""
    elapsed: float
    """Share of the task's horizon that is over, in [0, 1]."""
    last_action: NDArray[np.float32]
    """(A,) what was executed in the step before, in [-1, 1]; 0 at the start."""
    frame: Frame = "base"
    """The task's."""
    start_wrench: NDArray[np.float64] | None = None
    """(6,) that was measured at the start: the bias of the sensor."""

    starts: Mapping[str, Pose] = field(default_factory=dict)
    """The tools of several arms at the start of the episode, by their prefixes."""

    def of_arm(self, arm: str) -> Moment:
        """This moment as one of several arms has it."""
        return replace(self, arm=self.arm.arms[arm], start=self.starts[arm])

    def position(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """A position (3,) of the base frame [m] in the task's."""
        if self.frame == "base":
            return position
        return self.start.rotation_matrix().T @ (position - self.start.position)

    def orientation(self, pose: Pose) -> NDArray[np.float64]:
        """The first two columns (6,) of the rotation matrix of a pose of the base frame, in the task's."""
        matrix = pose.rotation_matrix()
        if self.frame == "tool":
            matrix = self.start.rotation_matrix().T @ matrix
        return matrix[:, :2].T.ravel()

    def since_start(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """A way or a turn since the start (3,), of the base frame, in the task's."""
        return vector if self.frame == "base" else self.start.rotation_matrix().T @ vector

    def vector(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """A free vector (3,) of the base frame, in the axes of the base, or of the tool as it is now."""
        return vector if self.frame == "base" else self.arm.tcp.rotation_matrix().T @ vector

    def wrench(self) -> NDArray[np.float64]:
        """Force [N] and torque [Nm] (6,) on the tool since the start, in the axes of the base, or of the tool.

        Raises:
            ValueError: none is measured.
        """
        now, start = self.arm.wrench, self.start_wrench
        if now is None or start is None:
            raise ValueError("state: tcp_force and tcp_torque need the measured wrench, and the arm's state has none")
        change = now - start
        if self.frame == "tool":
            return change
        return np.concatenate([self.arm.tcp.rotate(change[:3]), self.arm.tcp.rotate(change[3:])])


@dataclass(frozen=True)
class Term:
    """A few values that belong together.

    Attributes:
        size: number of values; `ONE_FOR_EACH_JOINT` of the arm.
        unit: of each of them.
        meaning: what they are.
        source: gives them, (size,).
        frame: where the task's frame is `tool`: that of the tool at the start, or as it is now; "-": they have none.
        measured: whether they come from sensors, which are noisy, and not from what was commanded or counted.
    """

    size: int
    unit: str
    meaning: str
    source: Callable[[Moment], NDArray[np.float64] | Sequence[float]]
    frame: TermFrame = "-"
    measured: bool = True


def _commanded(now: Moment, term: str) -> Pose:
    if now.arm.commanded is None:
        raise ValueError(f"state: {term} needs the commanded pose of the tool, and the arm's state has none")
    return now.arm.commanded


def _tracking_error(now: Moment) -> NDArray[np.float64]:
    return now.vector(_commanded(now, "tcp_tracking_error").position - now.arm.tcp.position)


def _rotation_tracking_error(now: Moment) -> NDArray[np.float64]:
    measured, commanded = now.arm.tcp, _commanded(now, "tcp_rotation_tracking_error")
    if (measured.quaternion == commanded.quaternion).all():
        return np.zeros(3)  # exactly, where rounding would leave something
    return now.vector(measured.rotation_vector_to(commanded))


def _joints(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if values is None:
        raise ValueError("state: joint_positions and joint_velocities need the joints, and the arm's state has none")
    return values


ARM_TERMS: Mapping[str, Term] = {
    "tcp_position": Term(
        3, "m", "position of the tool centre point", lambda now: now.position(now.arm.tcp.position), "start"
    ),
    "tcp_rotation": Term(
        6,
        "1",
        "orientation of the tool: the first two columns of its rotation matrix",
        lambda now: now.orientation(now.arm.tcp),
        "start",
    ),
    "tcp_position_from_start": Term(
        3,
        "m",
        "the way of the tool centre point since the start of the episode",
        lambda now: now.since_start(now.arm.tcp.position - now.start.position),
        "start",
    ),
    "tcp_rotation_from_start": Term(
        3,
        "rad",
        "the turn of the tool since the start of the episode, a rotation vector",
        lambda now: now.since_start(now.start.rotation_vector_to(now.arm.tcp)),
        "start",
    ),
    "tcp_linear_velocity": Term(
        3, "m/s", "velocity of the tool centre point", lambda now: now.vector(now.arm.tcp_velocity[:3]), "tool"
    ),
    "tcp_angular_velocity": Term(
        3, "rad/s", "angular velocity of the tool", lambda now: now.vector(now.arm.tcp_velocity[3:]), "tool"
    ),
    "tcp_tracking_error": Term(
        3,
        "m",
        "the way from the measured to the commanded tool centre point: what the tool presses with; 0 at the start",
        _tracking_error,
        "tool",
    ),
    "tcp_rotation_tracking_error": Term(
        3,
        "rad",
        "the turn from the measured to the commanded tool, a rotation vector: what twists the tool; 0 at the start",
        _rotation_tracking_error,
        "tool",
    ),
    "tcp_force": Term(3, "N", "force of the world on the tool; 0 at the start", lambda now: now.wrench()[:3], "tool"),
    "tcp_torque": Term(
        3,
        "Nm",
        "torque of the world on the tool, about the tool centre point; 0 at the start",
        lambda now: now.wrench()[3:],
        "tool",
    ),
    "joint_positions": Term(
        ONE_FOR_EACH_JOINT,
        "rad",
        "positions of the arm's joints, from the base on",
        lambda now: _joints(now.arm.joint_positions),
    ),
    "joint_velocities": Term(
        ONE_FOR_EACH_JOINT,
        "rad/s",
        "velocities of the arm's joints",
        lambda now: _joints(now.arm.joint_velocities),
    ),
    "gripper_width": Term(1, "m", "measured distance of the fingers", lambda now: (now.arm.gripper_width,)),
    "gripper_target": Term(
        1, "m", "commanded distance of the fingers", lambda now: (now.arm.gripper_target,), measured=False
    ),
    "time": Term(1, "1", "share of the horizon that is over, from 0 to 1", lambda now: (now.elapsed,), measured=False),
}


def last_action_term(size: int) -> Term:
    """The term `LAST_ACTION` of actions with `size` components."""
    return Term(
        size,
        "1",
        "the action that was executed in the step before; 0 at the start",
        lambda now: now.last_action.tolist(),
        measured=False,
    )


def object_terms(name: str) -> dict[str, Term]:
    """The terms that the object `name` adds."""
    return {
        f"{name}_position": Term(
            3, "m", f"position of {name}", lambda now: now.position(now.objects[name].position), "start"
        ),
        f"{name}_rotation": Term(
            6,
            "1",
            f"orientation of {name}: the first two columns of its rotation matrix",
            lambda now: now.orientation(now.objects[name]),
            "start",
        ),
        f"{name}_from_tcp": Term(
            3,
            "m",
            f"the way from the tool centre point to {name}",
            lambda now: now.vector(now.objects[name].position - now.arm.tcp.position),
            "tool",
        ),
        f"{name}_rotation_from_tcp": Term(
            6,
            "1",
            f"orientation of {name} in the frame of the tool, whatever the task's: the first two columns of its matrix",
            lambda now: (now.arm.tcp.rotation_matrix().T @ now.objects[name].rotation_matrix())[:, :2].T.ravel(),
            "tool",
        ),
    }


def terms_of_arms(arms: Sequence[str], objects: Sequence[str]) -> dict[str, Term]:
    """The terms of several arms: ``left/tcp_position`` is that of the arm ``left``, ``cube_position`` is nobody's.

    What an object is to a tool has the prefix of the tool's arm, too: ``left/cube_from_tcp``.
    """
    known: dict[str, Term] = {"time": ARM_TERMS["time"]}
    for name in objects:
        terms = object_terms(name)
        known |= {term: each for term, each in terms.items() if not term.endswith(_OF_A_TOOL)}
        known |= {
            f"{arm}/{term}": _of_arm(arm, each)
            for arm in arms
            for term, each in terms.items()
            if term.endswith(_OF_A_TOOL)
        }
    known |= {
        f"{arm}/{term}": _of_arm(arm, each)
        for arm in arms
        for term, each in ARM_TERMS.items()
        if term not in ("time", *WRENCH_TERMS)
    }
    return known


def _of_arm(arm: str, term: Term) -> Term:
    return replace(term, meaning=f"{term.meaning}, of the arm {arm}", source=lambda now: term.source(now.of_arm(arm)))
