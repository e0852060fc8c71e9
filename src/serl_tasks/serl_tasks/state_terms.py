# SPDX-License-Identifier: Apache-2.0
"""The terms that a task's state vector may be made of, each with its size, its unit and where it comes from.

An object ``cube`` of the task adds the terms of `object_terms("cube")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample

LAST_ACTION = "last_action"


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


@dataclass(frozen=True)
class Term:
    """A few values that belong together.

    Attributes:
        size: number of values.
        unit: of each of them.
        meaning: what they are.
        source: gives them, (size,).
        measured: whether they come from sensors, which are noisy, and not from what was commanded or counted.
    """

    size: int
    unit: str
    meaning: str
    source: Callable[[Moment], NDArray[np.float64] | Sequence[float]]
    measured: bool = True


def _commanded(moment: Moment, term: str) -> Pose:
    if moment.arm.commanded is None:
        raise ValueError(f"state: {term} needs the commanded pose of the tool, and the arm's state has none")
    return moment.arm.commanded


def _tracking_error(moment: Moment) -> NDArray[np.float64]:
    return _commanded(moment, "tcp_tracking_error").position - moment.arm.tcp.position


def _rotation_tracking_error(moment: Moment) -> NDArray[np.float64]:
    return moment.arm.tcp.rotation_vector_to(_commanded(moment, "tcp_rotation_tracking_error"))


ARM_TERMS: Mapping[str, Term] = {
    "tcp_position": Term(3, "m", "position of the tool centre point", lambda now: now.arm.tcp.position),
    "tcp_rotation": Term(
        6,
        "1",
        "orientation of the tool: the first two columns of its rotation matrix",
        lambda now: now.arm.tcp.rotation_matrix()[:, :2].T.ravel(),
    ),
    "tcp_position_from_start": Term(
        3,
        "m",
        "the way of the tool centre point since the start of the episode",
        lambda now: now.arm.tcp.position - now.start.position,
    ),
    "tcp_rotation_from_start": Term(
        3,
        "rad",
        "the turn of the tool since the start of the episode, a rotation vector",
        lambda now: now.start.rotation_vector_to(now.arm.tcp),
    ),
    "tcp_linear_velocity": Term(3, "m/s", "velocity of the tool centre point", lambda now: now.arm.tcp_velocity[:3]),
    "tcp_angular_velocity": Term(3, "rad/s", "angular velocity of the tool", lambda now: now.arm.tcp_velocity[3:]),
    "tcp_tracking_error": Term(
        3,
        "m",
        "the way from the measured to the commanded tool centre point: what the tool presses with; 0 at the start",
        _tracking_error,
    ),
    "tcp_rotation_tracking_error": Term(
        3,
        "rad",
        "the turn from the measured to the commanded tool, a rotation vector: what twists the tool; 0 at the start",
        _rotation_tracking_error,
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
        False,
    )


def object_terms(name: str) -> dict[str, Term]:
    """The terms that the object `name` adds."""
    return {
        f"{name}_position": Term(3, "m", f"position of {name}", lambda now: now.objects[name].position),
        f"{name}_from_tcp": Term(
            3,
            "m",
            f"the way from the tool centre point to {name}",
            lambda now: now.objects[name].position - now.arm.tcp.position,
        ),
    }
