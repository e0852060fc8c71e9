# SPDX-License-Identifier: Apache-2.0
"""Whether each joint turns the way its description says: by motions of some degrees, one joint after the other.

Servo and driver count a joint by the same encoder, so one that is built in or calibrated the other way around seems
to move as it should. What tells is outside of the bus: the weight of the arm, which pulls at a joint from a known side,
and the eye of a person.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from serl_feetech.arm import GRIPPER, ServoArm
from serl_feetech.bus import Bus
from serl_feetech.calibration import Calibration
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_sim.scene.gravity import gravity_torques

from serl_cli.doctor.finding import Finding, Level
from serl_feetech import registers

_TURN: Final = math.radians(6)  # of each joint
_OPENING: Final = 0.08  # of the gripper's, 0 closed to 1 open
_TORQUE: Final = 0.6  # share
_PARTS: Final = 8
_PART: Final = 0.03  # [s]
_SETTLING: Final = 0.15  # [s] until it stands
_MOVED: Final = 0.5  # least share of a motion that is one
_STILL: Final = math.radians(2.5)  # that the others may give way
_HEAVY: Final = 0.15  # [Nm] of weight at a joint from which its side is sure
_PULLS: Final = 20  # [0.1 %] of load that is one
_UNTURNED: Final = Pose((0.0, 0.0, 0.0))
_SEEN: Final = 0.004  # [m] of a motion of the tool that a person can see

Eye = Callable[[str, str], bool | None]
"""Asks a person whether a joint moved as a sentence says, by its name and the sentence; None: nobody looked."""


class MotionCheck:
    """Moves the joints of an arm whose servos are well."""

    def __init__(self, arm: ServoArm, bus: Bus, calibration: Calibration, robot: RobotModel, eye: Eye) -> None:
        """Move an arm.

        Args:
            arm: at rest, with room around it.
            bus: that it is on.
            calibration: of its servos.
            robot: what it is.
            eye: of a person.
        """
        self._arm, self._bus, self._calibration, self._robot, self._eye = arm, bus, calibration, robot, eye
        self._kinematics = Kinematics(robot)

    def findings(self) -> Iterator[Finding]:
        """Move one joint after the other, and let go at the end.

        Raises:
            FeetechError: a servo does not answer, or says that something is wrong with it.
        """
        if self._arm.joints != self._robot.arm_joints:
            found, expected = ", ".join(self._arm.joints), ", ".join(self._robot.arm_joints)
            text = f"the calibration is of {found}; expected the joints of {self._robot.name}, {expected}"
            yield Finding("joints", Level.BAD, text, "is it the file of this arm?")
            return
        reading = self._arm.read()
        # What it is sent back to: what it gives way to its weight would add up.
        places = np.append(reading.angles, reading.gripper)
        self._arm.hold(_TORQUE)
        try:
            time.sleep(2 * _SETTLING)  # it gives way to its weight
            yield self._weight()
            for index, name in enumerate((*self._arm.joints, GRIPPER)):
                yield self._joint(index, name, places)
        finally:
            self._arm.let_go()

    def _weight(self) -> Finding:
        joints = self._robot.joints
        loads = {name: self._bus.read(self._calibration[name].id, registers.PRESENT_LOAD) for name in joints}
        reading = self._arm.read()
        jaw = self._robot.gripper.position(reading.gripper * self._robot.gripper.max_width)
        torques = dict(zip(joints, gravity_torques(self._robot, [*reading.angles, jaw]).tolist(), strict=True))
        sure = [name for name in joints if abs(torques[name]) > _HEAVY and abs(loads[name]) > _PULLS]
        against = [name for name in sure if (torques[name] > 0.0) != (loads[name] > 0)]
        text = ", ".join(f"{name} {0.1 * loads[name]:+.0f} % ({torques[name]:+.2f} Nm)" for name in sure)
        if not sure:
            advice = "hold the fore arm out, so that its weight pulls, and try again"
            return Finding("weight", Level.NOTE, "the arm stands so that its weight tells of no joint", advice)
        if len(sure) > 1 and len(against) == len(sure):
            advice = "either this firmware counts loads the other way, or all these joints do: look at each as it moves"
            return Finding("weight", Level.NOTE, f"all loads are against the weight: {text}", advice)
        if against:
            advice = "this joint is built in or calibrated the other way around: see drive_mode in its calibration"
            return Finding("weight", Level.BAD, f"{', '.join(against)}: the load is against the weight; {text}", advice)
        return Finding("weight", Level.GOOD, text)

    def _joint(self, index: int, name: str, places: NDArray[np.float64]) -> Finding:
        start = self._arm.read()
        middle = np.append(0.5 * (self._arm.lower + self._arm.upper), 0.5)
        step = np.zeros(places.size)
        amount = _OPENING if name == GRIPPER else _TURN
        step[index] = amount if places[index] < middle[index] else -amount
        self._go(places, step)
        there = self._arm.read()
        moved = np.append(there.angles - start.angles, there.gripper - start.gripper)
        seen = self._eye(name, self._sentence(name, places, step))
        self._go(places + step, -step)
        share, others = float(moved[index] / step[index]), np.delete(moved[:-1], index if name != GRIPPER else [])
        if share < -0.2:
            return Finding(name, Level.BAD, "moved the other way", "its servo turns the wrong way: exchange it")
        if share < _MOVED:
            advice = "is something in its way, or its horn loose?"
            return Finding(name, Level.BAD, f"moved {share:.0%} of the way", advice)
        if seen is not None and not seen:
            advice = "it is built in or calibrated the other way around: see drive_mode in its calibration"
            return Finding(name, Level.BAD, "did not move as its description says", advice)
        text = f"moved {share:.0%} of the way"
        if others.size and np.abs(others).max() > _STILL:
            return Finding(name, Level.NOTE, f"{text}, and others with it", "are two joints coupled, or one too weak?")
        return Finding(name, Level.GOOD, text + ("" if seen else "; nobody has looked which way"))

    def _go(self, places: NDArray[np.float64], step: NDArray[np.float64]) -> None:
        for part in range(1, _PARTS + 1):
            goal = places + step * part / _PARTS
            self._arm.go_to(goal[:-1], float(goal[-1]))
            time.sleep(_PART)
        time.sleep(_SETTLING)

    def _sentence(self, name: str, places: NDArray[np.float64], step: NDArray[np.float64]) -> str:
        """What a motion should look like."""
        if name == GRIPPER:
            return "opened a little" if step[-1] > 0.0 else "closed a little"
        before = self._kinematics.tcp(places[:-1])
        after = self._kinematics.tcp((places + step)[:-1])
        way = after.position - before.position
        axis = int(np.abs(way).argmax())
        if abs(way[axis]) > _SEEN:
            words: Mapping[int, tuple[str, str]] = {0: ("back", "forward"), 1: ("right", "left"), 2: ("down", "up")}
            return f"brought the tool {words[axis][int(way[axis] > 0.0)]}, seen from behind the base"
        turn = _UNTURNED.rotation_vector_to(before.inverse().compose(after))
        return f"turned the tool {'clockwise' if turn[2] > 0.0 else 'counter-clockwise'}, seen along the fingers"
