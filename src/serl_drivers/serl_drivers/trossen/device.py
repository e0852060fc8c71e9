# SPDX-License-Identifier: Apache-2.0
"""Trossen's WidowX AI at its controller in the network, by the vendor's driver. Needs the extra `trossen`.

What the driver (`trossen_arm` 1.11) leaves to whoever uses it: its setters wait for two seconds unless they are told
not to; it takes targets beyond the limits, and such that are no number; before it is configured its getters answer
empty vectors; when the controller falls silent its getters go on to answer the last sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
from serl_config.optional import optional_module
from serl_config.schema import ConfigError, Field, build, config
from serl_config.text import printable
from serl_robots.model.robot import RobotModel

from serl_drivers.device import DriverError, Joints, Reading
from serl_drivers.grip import Grip

JOINTS: Final = 6
FINGERS: Final = 2
"""The driver tells and takes the way of one of them: the opening is twice that."""

_AT_ONCE: Final = 0.0  # [s] that a target takes
_MARGIN: Final = 1e-3  # [rad] that targets keep from the controller's own limits


@config(kw_only=True)
class TrossenSettings:
    """Which arm of Trossen, and how it is driven."""

    port: str = Field(default="192.168.1.2", min_length=1, description="address of the arm's controller")
    end_effector: Literal["wxai_v0_follower", "wxai_v0_base"] = Field(
        default="wxai_v0_follower", description="what is at the arm, as the vendor calls it"
    )
    clear_error: bool = Field(default=False, description="clear an error of the controller when connecting")
    feedback_timeout: float = Field(
        default=0.05, gt=0.0, le=5.0, description="time after which the same sample is an old one [s]"
    )
    squeeze: float = Field(
        default=0.02,
        ge=0.0,
        le=0.1,
        description="how much narrower than what it holds the gripper is sent, at most [m]",
    )
    connect_timeout: float = Field(default=3.0, gt=0.0, le=9.0, description="time that the controller has [s]")


class TrossenDevice:
    """See `serl_drivers.device.ArmDevice`. Without commands the controller keeps its last target, so the arm holds.

    Idle, which is what the driver leaves behind wherever it ends, the controller brakes the joints; the arm cannot be
    made limp.
    """

    def __init__(self, settings: TrossenSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Name the controller; nothing is sent.

        Args:
            settings: of the arm.
            clock: monotonic time [s].
        """
        self._settings, self._clock = settings, clock
        self._driver: Any = None
        self._sdk: Any = None
        self._lower = self._upper = np.zeros(JOINTS + 1)
        self._sample, self._sampled_at = -1, -math.inf
        self._follows = False
        self._grip, self._width = Grip(settings.squeeze), 0.0

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"WidowX AI at {self._settings.port}"

    def connect(self) -> None:
        """Configure the vendor's driver: the joints are braked then.

        Raises:
            DriverError: no SDK, no controller, one of another firmware, or with an error.
        """
        self.close()
        settings = self._settings
        trossen_arm = optional_module(
            "trossen_arm", extra="trossen", needed_by="the vendor's driver", error=self._error
        )
        self._sdk, driver = trossen_arm, trossen_arm.TrossenArmDriver()
        with self._asking():
            driver.configure(
                trossen_arm.Model.wxai_v0,
                getattr(trossen_arm.StandardEndEffector, settings.end_effector),
                settings.port,
                settings.clear_error,
                settings.connect_timeout,
            )
            self._driver = driver
            limits = driver.get_joint_limits()
        if len(limits) != JOINTS + 1:
            self.close()
            raise self._error(f"expected {JOINTS} joints and a gripper, found {len(limits)} joints")
        self._lower = np.array([limit.position_min for limit in limits])
        self._upper = np.array([limit.position_max for limit in limits])
        self._sample, self._sampled_at = -1, self._clock()

    def limp(self) -> str:
        """Idle, its joints are braked."""
        return ""

    def read(self) -> Reading:
        """Where it is, by the newest sample.

        Raises:
            DriverError: the controller says that something is wrong, or nothing new for too long.
        """
        driver, now = self._connected(), self._clock()
        with self._asking():
            output = driver.get_robot_output()
        if output.header.id != self._sample:
            self._sample, self._sampled_at = output.header.id, now
        elif now - self._sampled_at > self._settings.feedback_timeout:
            raise self._error(
                f"no new sample for {now - self._sampled_at:.2f} s; look at the controller's power and its cable"
            )
        every = output.joint.all
        positions = np.array(every.positions)
        if positions.size != JOINTS + 1 or not np.isfinite(positions).all():
            raise self._error(f"expected {JOINTS + 1} finite positions, found {positions.tolist()}")
        values: dict[str, float] = {"effort of the gripper [N]": float(every.efforts[JOINTS])}
        for joint, (motor, electronics) in enumerate(
            zip(every.rotor_temperatures, every.driver_temperatures, strict=True)
        ):
            values[f"temperature of joint {joint} [degC]"] = float(motor)
            values[f"temperature of the driver of joint {joint} [degC]"] = float(electronics)
        values["gripper holds something [1]"] = float(self._grip.holds)
        self._width = width_of(float(positions[JOINTS]))
        return Reading(
            positions=positions[:JOINTS],
            velocities=np.array(every.velocities)[:JOINTS],
            width=self._width,
            efforts=np.array(every.efforts)[:JOINTS],
            values=values,
        )

    def hold(self) -> None:
        """Stand where the arm is, in the mode of positions; raises DriverError."""
        reading, driver = self.read(), self._connected()
        if self._grip.holds:  # it goes on to hold what it has
            reading = dataclasses.replace(reading, width=max(0.0, reading.width - self._settings.squeeze))
        if not self._follows:
            with self._asking():
                driver.set_all_modes(self._sdk.Mode.position)
            self._follows = True
        self.write(reading.positions, reading.width)

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (6,) [rad] and an opening [m], no further than the controller's own limits.

        Raises:
            DriverError: the controller is lost, or one of them is no number; then nothing is sent.
        """
        held = self._grip.target(width, self._width, self._clock())
        wanted = np.append(positions, finger_of(held))
        if wanted.size != JOINTS + 1 or not np.isfinite(wanted).all():
            raise self._error(
                f"a target was refused: expected {JOINTS} finite positions and a finite width, found "
                f"{np.asarray(positions).tolist()} and {width}; look at who commands the arm"
            )
        goal = within_limits(wanted, self._lower, self._upper)
        driver = self._connected()
        with self._asking():
            driver.set_all_positions(goal.tolist(), _AT_ONCE, False)

    def release(self) -> None:
        """Make the joints idle, which brakes them: no motor holds any longer; raises DriverError."""
        driver = self._connected()
        self._follows = False
        self._grip.forget()
        with self._asking():
            driver.set_all_modes(self._sdk.Mode.idle)

    def close(self) -> None:
        """Let the vendor's driver end, which makes the joints idle: braked."""
        driver, self._driver, self._follows = self._driver, None, False
        if driver is not None:
            with contextlib.suppress(RuntimeError):  # it is gone, and has been said to be
                driver.cleanup()

    def _connected(self) -> Any:
        if self._driver is None:
            raise self._error("not connected")
        return self._driver

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what the vendor's driver raises into one line."""
        try:
            yield
        except (RuntimeError, AssertionError) as error:  # its LogicError is an AssertionError
            raise self._error(_why(str(error))) from error

    def _error(self, text: str) -> DriverError:
        return DriverError(f"{self.description}: {text}")


def within_limits(wanted: Joints, lower: Joints, upper: Joints) -> Joints:
    """The target (7,) nearest to `wanted` within `lower` and `upper`, (7,) each [rad], and [m] of the finger.

    Joints keep a margin from the ends: what goes beyond them by the controller's tolerance is an error of it.
    """
    margin = np.append(np.full(JOINTS, _MARGIN), 0.0)
    return np.clip(wanted, lower + margin, upper - margin)


def width_of(finger: float) -> float:
    """Opening [m] at the way of a finger [m]."""
    return FINGERS * finger


def finger_of(width: float) -> float:
    """Way of a finger [m] at an opening [m]."""
    return width / FINGERS


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> TrossenDevice:
    """An arm of Trossen that is `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong, or the robot has another number of joints.
    """
    if len(robot.arm_joints) != JOINTS:
        raise ConfigError(
            f"{source}: 'robot': expected one of {JOINTS} joints, found {robot.name!r} of {len(robot.arm_joints)}"
        )
    return TrossenDevice(build(TrossenSettings, dict(settings), source))


def _why(text: str) -> str:
    said = printable(text.split("\n")[0], 200)
    if "Failed to connect" in said:
        return f"{said}; look at its power and cable, and that this machine has an address in its network"
    if "version" in said:
        return f"{said}; the firmware and trossen_arm have to be of the same major.minor version"
    if "Resource temporarily unavailable" in said:
        return f"{said}: it answers nothing; does another program drive it?"
    return said
