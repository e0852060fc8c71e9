# SPDX-License-Identifier: Apache-2.0
"""Emulated servos that turn the joints of a simulated arm: goals and torque from their registers, gravity from MuJoCo.

A servo pulls with its gain towards its goal, within its torque limit, and slows down as a motor does that is turned.
One without torque is limp, and what hangs on it falls. No Python runs between physics steps: each servo is an actuator
of the model, whose gains are set when a register has changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import mujoco
from serl_feetech.calibration import Calibration, ServoCalibration
from serl_feetech.emulated.servo import EmulatedServo
from serl_feetech.registers import TURN

from serl_feetech import registers
from serl_sim.scene.actuators import CARTESIAN
from serl_sim.scene.scene import TIMESTEP
from serl_sim.world import SimulationError, World

_ANGLE: Final = 2.0 * math.pi / TURN  # [rad] of a step
_MIDDLE: Final = 2047  # [steps] told at a joint's zero, as LeRobot calibrates
_EVEN: Final = 0.01  # [rad] by which the middle of a joint's range may be off its zero; else it counts as turning round

# STS3215 at 12 V (Feetech: 30 kg cm, 45 turns a minute without load).
_STALL_TORQUE: Final = 2.94  # [Nm]
_STIFFNESS: Final = 30.0  # [Nm/rad] with the gain it comes with
_USUAL_GAIN: Final = 32
_BACK_EMF: Final = _STALL_TORQUE / 4.7  # [Nm s/rad]
_LIMP_DAMPING: Final = 0.05  # [Nm s/rad] of gears that nobody drives
_FRICTION: Final = 0.03  # [Nm]
_HAND_FRICTION: Final = 5.0  # [Nm] of who holds the arm until it holds itself


@dataclass
class _Joint:
    """A joint of the model, and the servo in it.

    Attributes:
        servo: in it.
        zero: encoder's steps at the joint's zero.
        sign: 1, or -1 where the servo is built in the other way around.
        position: index of its angle.
        velocity: index of its speed.
        actuator: index of its actuator.
    """

    servo: EmulatedServo
    zero: int
    sign: int
    position: int
    velocity: int
    actuator: int

    def angle(self, steps: float) -> float:
        """Angle [rad] at steps of the encoder."""
        return self.sign * (steps - self.zero) * _ANGLE

    def steps(self, angle: float) -> float:
        """Steps of the encoder, or of its speed beyond `zero`, at an angle [rad]."""
        return self.zero + self.sign * angle / _ANGLE


def calibration_of(world: World) -> Calibration:
    """What LeRobot's calibration of the robot's joints comes to, by their names; ids from 1, from the base on.

    A joint whose range is even about its zero has that range, what turns farther to one side has the whole turn, and
    the gripper goes from closed to open. Encoders are put on at any angle, so each servo has an offset.
    """
    calibration: Calibration = {}
    names = world.robot.joints
    for number, name in enumerate(names, start=1):
        lower, upper = world.model.joint(name).range.tolist()
        low, high = round(_MIDDLE + lower / _ANGLE), round(_MIDDLE + upper / _ANGLE)
        if name not in world.robot.gripper.joints and abs(lower + upper) > _EVEN:
            low, high = 0, TURN - 1
        calibration[name] = ServoCalibration(number, 0, 150 - 41 * number, low, high)
    return calibration


def steps_at(angle: float, offset: int) -> float:
    """Steps of the encoder at an angle [rad], of a servo with a homing offset [steps]."""
    return _MIDDLE + offset + angle / _ANGLE


def calibrated_servo(calibration: ServoCalibration, position: float) -> EmulatedServo:
    """A servo at `position` [steps of the encoder] that has its calibration in it."""
    servo = EmulatedServo(calibration.id, position)
    kept = {
        registers.LOCK: 0,
        registers.HOMING_OFFSET: calibration.homing_offset,
        registers.MIN_POSITION: max(calibration.range_min, 0),
        registers.MAX_POSITION: min(calibration.range_max, TURN - 1),
        registers.GOAL_POSITION: round(position) - calibration.homing_offset,
    }
    for register, value in kept.items():
        servo.write(register.address, register.encode(value))
    servo.write(registers.LOCK.address, b"\1")
    return servo


class ServoPlant:
    """The joints of a world, moved by servos. Not thread-safe.

    Attributes:
        world: that moves. Its own controllers do not.
        servos: by the names of their joints.
        broken: why nothing moves any more until `place_objects`; empty while it can.
        supported: whether somebody holds the arm up, as a person does until the servos hold it: from the start until
            all of them have had torque once.
    """

    def __init__(self, world: World, calibration: Mapping[str, ServoCalibration]) -> None:
        """Build servos into a world.

        Args:
            world: whose robot has a hinge at each joint.
            calibration: of its joints, by name, which the servos have in them.

        Raises:
            ValueError: the robot has other joints than these, or one that is no hinge.
        """
        names, found = world.robot.joints, ", ".join(calibration)
        hinges = [name for name in names if world.model.joint(name).type[0] == mujoco.mjtJoint.mjJNT_HINGE]
        if tuple(hinges) != names or set(names) != set(calibration):
            raise ValueError(
                f"robot {world.robot.name!r}: expected a hinge and a servo at each of {', '.join(names)}, found hinges "
                f"{', '.join(hinges) or 'nowhere'}, and servos for {found}"
            )
        self.world, self.broken, self.supported = world, "", True
        self._joints = {name: self._build_in(name, calibration[name]) for name in names}
        self.servos = {name: joint.servo for name, joint in self._joints.items()}
        self._left = 0.0  # [s] that have passed and are less than a physics step
        self._settings: tuple[tuple[float, ...], ...] = ()
        world.model.opt.disableactuator = 1 << CARTESIAN
        self._tell(0.0)

    def _build_in(self, name: str, calibration: ServoCalibration) -> _Joint:
        world, joint = self.world, self.world.model.joint(name)
        zero = _MIDDLE + calibration.homing_offset
        position, velocity = int(joint.qposadr[0]), int(joint.dofadr[0])
        angle = float(world.data.qpos[position])
        servo = calibrated_servo(calibration, steps_at(angle, calibration.homing_offset))
        return _Joint(servo, zero, 1, position, velocity, int(world.model.actuator(name).id))

    def build_in_reversed(self, name: str) -> None:
        """Turn a servo around, so that it counts against its joint; a fault that nothing on the bus tells of."""
        joint = self._joints[name]
        joint.sign = -joint.sign
        servo = joint.servo
        servo.position = joint.steps(float(self.world.data.qpos[joint.position]))
        goal = round(servo.position) - servo.offset
        servo.write(registers.GOAL_POSITION.address, registers.GOAL_POSITION.encode(goal))

    def place_objects(self, seed: int) -> None:
        """Put the objects where `seed` puts them; the arm stays where it is.

        Raises:
            ValueError: `seed` is negative.
        """
        self.world.place_objects(seed)
        self.broken = ""

    def move(self, seconds: float) -> None:
        """Let time pass [s]; see `serl_feetech.emulated.bus.Mechanics`."""
        self._left += seconds
        steps = int(self._left / TIMESTEP + 1e-6)
        if not steps or self.broken:
            return
        self._left = max(self._left - steps * TIMESTEP, 0.0)
        self._drive()
        try:
            self.world.advance(steps)
        except SimulationError as error:
            self.broken = str(error)
            return
        self._tell(steps * TIMESTEP)

    def _drive(self) -> None:
        """Let the actuators do what the registers say."""
        model, data = self.world.model, self.world.data
        if self.supported and all(servo.torque_enabled for servo in self.servos.values()):
            self.supported = False
        settings = []
        for joint in self._joints.values():
            servo = joint.servo
            gain = _STIFFNESS * servo.value(registers.P_GAIN) / _USUAL_GAIN if servo.torque_enabled else 0.0
            data.ctrl[joint.actuator] = joint.angle(servo.goal)
            settings.append((gain, 1e-3 * servo.limit * _STALL_TORQUE, float(self.supported)))
        if self._settings == (found := tuple(settings)):
            return
        self._settings = found
        for joint, (gain, limit, supported) in zip(self._joints.values(), found, strict=True):
            model.actuator_gainprm[joint.actuator, 0] = gain
            model.actuator_biasprm[joint.actuator, :3] = (0.0, -gain, 0.0)
            model.actuator_forcerange[joint.actuator] = (-limit, limit)
            model.dof_damping[joint.velocity] = _BACK_EMF if gain else _LIMP_DAMPING
            model.dof_frictionloss[joint.velocity] = _HAND_FRICTION if supported and not gain else _FRICTION
        model.body_gravcomp[:] = float(self.supported)

    def _tell(self, seconds: float) -> None:
        """Let the servos feel what has become of them in a time [s]."""
        data = self.world.data
        for joint in self._joints.values():
            load = joint.sign * 1e3 * float(data.actuator_force[joint.actuator]) / _STALL_TORQUE
            speed = joint.sign * float(data.qvel[joint.velocity]) / _ANGLE
            joint.servo.moved(joint.steps(float(data.qpos[joint.position])), speed, load, seconds)
