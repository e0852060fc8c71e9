# SPDX-License-Identifier: Apache-2.0
"""Franka Research 3 or Panda by libfranka, with franky's impedance control at 1 kHz. Needs the extra `franka`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from serl_config.schema import ConfigError, Field, build, config
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

from serl_drivers.device import DriverError, Joints, Reading
from serl_drivers.franka.session import HandThread, RobotWatcher, SessionError, failures, load_franky, said, within

JOINTS: Final = 7
_STOP_PATIENCE: Final = 0.15  # [s] for the arm to come to rest
_FURTHEST_TOOL: Final = 0.5  # [m] from the tool centre point to the end effector that is set in Desk
_POSTURE_STIFFNESS: Final = 10.0  # [Nm/rad], in the null space of Cartesian control
_POLL: Final = 0.005  # [s]


@config(kw_only=True)
class FrankaSettings:
    """Which arm of Franka, and how it is driven."""

    port: str = Field(min_length=1, description="address of the robot's control, as 172.16.0.2")
    control: Literal["joint", "cartesian"] = Field(
        default="joint", description="what is kept: joints and their posture, or the tool's pose"
    )
    realtime: bool = Field(default=True, description="refuse a kernel without real time")
    hand: bool = Field(default=True, description="a Franka hand is at the arm")
    grasp_force: float = Field(default=30.0, gt=0.0, le=70.0, description="with which it closes [N]")
    hand_speed: float = Field(default=0.1, gt=0.0, le=0.3, description="of the opening [m/s]")
    hand_stops: bool = Field(
        default=True, description="a motion of the hand is stopped for a newer width; false: it ends first"
    )
    joint_stiffness: tuple[float, ...] = Field(
        default=(600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0),
        min_length=JOINTS,
        max_length=JOINTS,
        description="of joint control, critically damped [Nm/rad]",
    )
    joint_error: float = Field(
        default=0.1, gt=0.0, le=0.5, description="most that a joint's reference is ahead of the joint [rad]"
    )
    linear_stiffness: float = Field(default=1000.0, gt=0.0, le=3000.0, description="of Cartesian control [N/m]")
    angular_stiffness: float = Field(default=50.0, gt=0.0, le=300.0, description="of Cartesian control [Nm/rad]")
    linear_error: float = Field(default=0.02, gt=0.0, le=0.1, description="to which the error is clipped at 1 kHz [m]")
    angular_error: float = Field(default=0.1, gt=0.0, le=0.5, description="to which it is clipped [rad]")
    torque_step: float = Field(
        default=1.0, gt=0.0, le=20.0, description="most that a torque changes in one turn of the control loop [Nm]"
    )
    torque_threshold: float = Field(default=20.0, gt=0.0, le=87.0, description="from which a joint collides [Nm]")
    force_threshold: float = Field(default=30.0, gt=0.0, le=100.0, description="from which the tool collides [N]")
    feedback_timeout: float = Field(
        default=0.05, gt=0.0, le=5.0, description="time after which the same state is an old one [s]"
    )
    connect_timeout: float = Field(default=4.0, gt=0.0, le=4.5, description="time that robot and hand have each [s]")


class FrankaDevice:
    """See `serl_drivers.device.ArmDevice`.

    The control loop runs in libfranka's thread: while nobody commands it keeps the last reference, and when the process
    or the cable is gone the robot itself stops within milliseconds and brakes.
    """

    def __init__(self, robot: RobotModel, settings: FrankaSettings) -> None:
        """Name the robot; nothing is sent.

        Args:
            robot: that it is.
            settings: of it.
        """
        self._settings = settings
        self._kinematics = Kinematics(robot)
        self._franky: Any = None
        self._failures: tuple[type[Exception], ...] = (SessionError,)
        self._robot: Any = None
        self._watcher: RobotWatcher | None = None
        self._hand: HandThread | None = None
        self._motion: Any = None
        self._tcp_to_ee = Pose.identity()

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"Franka arm at {self._settings.port}"

    def connect(self) -> None:
        """Open the connection, and take back a reflex; the brakes stay as they are.

        Raises:
            DriverError: no franky, no robot, one of another system version, or one that is stopped, guided or busy.
        """
        self.close()
        settings = self._settings
        try:
            self._franky = franky = load_franky()
            self._failures = (SessionError, *failures(franky))
            kernel = franky.RealtimeConfig.Enforce if settings.realtime else franky.RealtimeConfig.Ignore
            self._robot = robot = within(
                settings.connect_timeout,
                lambda: franky.Robot(
                    settings.port, 1.0, settings.torque_threshold, settings.force_threshold, realtime_config=kernel
                ),
                "answer of the robot",
            )
            if robot.has_errors:
                within(settings.connect_timeout, robot.recover_from_errors, "recovery of the robot")
            if settings.hand:
                self._hand = within(settings.connect_timeout, self._new_hand, "answer of the hand")
            self._watcher = RobotWatcher(robot, self._failures)
            self._await_state()
        except self._failures as error:
            self.close()
            raise self._error(_why(error)) from error

    def limp(self) -> str:
        """Out of control, the robot keeps its place by itself."""
        return ""

    def read(self) -> Reading:
        """Where it is, by the newest state.

        Raises:
            DriverError: the robot is lost.
        """
        state, hand = self._state(), self._hand
        if hand is not None and hand.problem is not None:
            raise self._error(hand.problem)
        force = np.array(state.O_F_ext_hat_K)
        values = {f"force {axis} [N]": float(each) for axis, each in zip("xyz", force[:3], strict=True)}
        values["answers to commands in time [1]"] = float(state.control_command_success_rate)
        if hand is not None:
            values["gripper holds something [1]"] = float(hand.holds)
        return Reading(
            positions=np.array(state.q),
            velocities=np.array(state.dq),
            width=0.0 if hand is None else hand.width,
            efforts=np.array(state.tau_J),
            values=values,
            faults=tuple(self._faults(state)),
        )

    def hold(self) -> None:
        """Stand where the arm is, in the impedance control.

        Raises:
            DriverError: the robot is lost or has stopped.
        """
        state = self._state()
        faults = self._faults(state)
        if faults:
            raise self._error("; ".join(faults) + "; see to that, then call driver/connect")
        if self._motion is not None:
            self._refer(np.array(state.q))
            return
        self._motion = self._new_motion(np.array(state.q))
        self._refer(np.array(state.q))
        try:
            self._robot.move(self._motion, asynchronous=True)
        except self._failures as error:
            self._motion = None
            raise self._error(said(error)) from error

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (7,) [rad] and an opening [m].

        Raises:
            DriverError: the robot is not held, or one of them is no number; then nothing is sent.
        """
        if self._motion is None:
            raise self._error("not held; ask it to hold first")
        if not (np.isfinite(positions).all() and np.isfinite(width)):
            raise self._error(f"a target was refused: expected finite numbers, found {positions.tolist()} and {width}")
        reference = np.clip(positions, self._kinematics.lower, self._kinematics.upper)
        if self._settings.control == "joint":
            reference = clipped_error(reference, np.array(self._state().q), self._settings.joint_error)
        self._refer(reference)
        if self._hand is not None:
            self._hand.open_to(width)

    def release(self) -> None:
        """End the control: the robot keeps its place by itself, and its guiding button frees it; raises DriverError."""
        self._state()
        self._stop()

    def close(self) -> None:
        """End the control and the connection; the robot keeps its place by itself."""
        if self._robot is not None:
            self._stop()
        for thread in (self._hand, self._watcher):
            if thread is not None:
                thread.close()
        self._hand = self._watcher = self._robot = None

    def _new_hand(self) -> HandThread:
        hand = self._franky.Gripper(self._settings.port)
        if hand.state.max_width < 0.01:
            raise SessionError("the hand has not been homed; home it in Desk")
        settings = self._settings
        return HandThread(hand, self._failures, settings.hand_speed, settings.grasp_force, stops=settings.hand_stops)

    def _new_motion(self, posture: Joints) -> Any:
        settings, franky = self._settings, self._franky
        limits = {
            "lower_joint_limits": self._kinematics.lower,
            "upper_joint_limits": self._kinematics.upper,
            "max_delta_tau": settings.torque_step,
        }
        if settings.control == "joint":
            return franky.JointImpedanceTrackingMotion(stiffness=np.array(settings.joint_stiffness), **limits)
        return franky.CartesianImpedanceTrackingMotion(
            translational_stiffness=settings.linear_stiffness,
            rotational_stiffness=settings.angular_stiffness,
            translational_error_clip=np.full(3, settings.linear_error),
            rotational_error_clip=np.full(3, settings.angular_error),
            posture_task=franky.PostureTask(posture, _POSTURE_STIFFNESS),
            **limits,
        )

    def _refer(self, positions: Joints) -> None:
        """Give the control loop another reference, which it reads in its next turn."""
        if self._settings.control == "joint":
            self._motion.set_reference(self._franky.JointReference(q=positions))
            return
        pose = self._kinematics.tcp(positions).compose(self._tcp_to_ee)
        target = self._franky.Affine(pose.position, pose.quaternion)
        self._motion.set_reference(self._franky.CartesianReference(target=target))

    def _stop(self) -> None:
        """Bring the arm to rest and end the control loop, as far as the robot still listens."""
        self._motion = None
        try:
            if self._robot.is_in_control:
                self._robot.move(self._franky.TorqueStopMotion(), asynchronous=True)
            self._robot.join_motion(_STOP_PATIENCE)
        except self._failures:  # of a robot that is gone, which has been said
            return

    def _await_state(self) -> None:
        watcher, deadline = self._watcher, time.monotonic() + self._settings.connect_timeout
        assert watcher is not None
        while watcher.observed.state is None:
            if watcher.observed.problem is not None:
                raise SessionError(watcher.observed.problem)
            if time.monotonic() > deadline:
                raise SessionError(f"no state within {self._settings.connect_timeout:g} s")
            time.sleep(_POLL)
        state = watcher.observed.state
        tool = Pose(np.array(state.O_T_EE.translation).ravel(), np.array(state.O_T_EE.quaternion).ravel())
        offset = self._kinematics.tcp(state.q).inverse().compose(tool)
        far = offset.distance(Pose.identity())
        if far > _FURTHEST_TOOL:
            raise SessionError(f"expected an end effector near the tool, found one {far:.2f} m off; is it set in Desk?")
        self._tcp_to_ee = offset

    def _state(self) -> Any:
        if self._watcher is None:
            raise self._error("not connected")
        observed = self._watcher.observed
        if observed.problem is not None:
            raise self._error(observed.problem)
        age = time.monotonic() - observed.changed
        if age > self._settings.feedback_timeout:
            raise self._error(f"the same state for {age:.2f} s; look at the robot's control and the cable to it")
        return observed.state

    def _faults(self, state: Any) -> list[str]:
        modes = self._franky.RobotMode
        names = {
            modes.Reflex: f"a reflex: {state.current_errors or state.last_motion_errors}",
            modes.UserStopped: "the stop button is pressed",
            modes.Guiding: "it is led by hand, with its guiding button",
            modes.AutomaticErrorRecovery: "it recovers from an error",
        }
        found = [names[state.robot_mode]] if state.robot_mode in names else []
        if self._motion is not None and not self._robot.is_in_control:
            self._motion = None
            try:
                self._robot.join_motion(_STOP_PATIENCE)
                found.append("its control has ended")
            except self._failures as error:
                found.append(said(error))
        return found

    def _error(self, text: str) -> DriverError:
        return DriverError(f"{self.description}: {text}")


def clipped_error(wanted: Joints, measured: Joints, most: float) -> Joints:
    """The reference (7,) [rad] nearest to `wanted` that is at most `most` ahead of `measured`, (7,) each [rad]."""
    return measured + np.clip(wanted - measured, -most, most)


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> FrankaDevice:
    """An arm of Franka that is `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong, or the robot has another number of joints.
    """
    if len(robot.arm_joints) != JOINTS:
        raise ConfigError(
            f"{source}: 'robot': expected one of {JOINTS} joints, found {robot.name!r} of {len(robot.arm_joints)}"
        )
    return FrankaDevice(robot, build(FrankaSettings, dict(settings), source))


def _why(error: Exception) -> str:
    text = said(error)
    match type(error).__name__:
        case "IncompatibleVersionException":
            return f"{text}; a Panda (FER) needs a franky built with libfranka 0.9.2, an FR3 that of its system version"
        case "RealtimeException":
            return f"{text}; run a kernel with PREEMPT_RT, and allow this user real-time priority"
        case "NetworkException":
            return f"{text}; look at its power and cable, unlock the brakes and activate the FCI in Desk"
    return text
