# SPDX-License-Identifier: Apache-2.0
"""What goes into the arm controller with each state, and what comes out of it for the low level."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_robots.model.pose import Pose
from serl_robots.safety.overload import NO_LOADS, Loads
from serl_robots.safety.source import Source


@dataclass(frozen=True, slots=True)
class Measured:
    """What the newest joint states say."""

    stamp_ns: int
    tcp: Pose
    joints: NDArray[np.float64]  # arm joints (n_joints,) [rad]
    gripper_width: float  # [m]
    received_at: float  # local time [s]
    loads: Loads = NO_LOADS


class CommandResult(NamedTuple):
    """What one control step commands. Where the joints are commanded, `target` is where they lead the tool."""

    target: Pose
    gripper_width: float  # [m]
    executed: NDArray[np.float32]  # the normalized action that it amounts to, float32 (n,) in [-1, 1]
    limits: tuple[str, ...]  # names of the limits that acted
    joint_positions: NDArray[np.float64] | None = None  # (n_joints,) [rad]; commanded instead of the tool pose


@dataclass(frozen=True, slots=True)
class Command:
    """What to publish: a target for the low level, and the report of the control step it belongs to."""

    stamp_ns: int  # of the measured state it starts from
    source: Source
    target: Pose
    gripper_width: float  # [m]
    joint_positions: NDArray[np.float64] | None = None  # (n_joints,) [rad]; commanded instead of the tool
    episode: int = 0
    step: int = 0
    executed: NDArray[np.float32] | None = None  # normalized action (n,); None: a hold, nobody's step
    limits: tuple[str, ...] = ()
