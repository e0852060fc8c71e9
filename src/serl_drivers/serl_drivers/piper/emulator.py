# SPDX-License-Identifier: Apache-2.0
"""A Piper that is not there: it speaks the arm's frames on a bus of python-can, and moves as joints with motors do.

It knows nothing of the vendor's SDK. On a `virtual` bus it is heard within its process, on `udp_multicast` or vcan by
others too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_drivers.piper import frames, units

RATE: Final = 200.0
"""Rate of its joints' feedback [Hz], which is that of the arm."""
SLOW_EVERY: Final = 8
"""Temperatures and flags come with each so many of those."""

TOP_SPEED: Final = 3.0
"""Fastest that a joint moves, at a speed of 100 % [rad/s]."""
ACCELERATION: Final = 30.0
"""[rad/s^2]"""
STIFFNESS: Final = 25.0
"""Speed with which a joint goes to its target, for each radian that it is away [1/s]."""
GRIPPER_SPEED: Final = 0.15
"""[m/s]"""
GRIPPER_OPENING: Final = 0.07
"""[m]"""
LOWER: Final = np.radians([-150.0, 0.0, -170.0, -100.0, -70.0, -120.0])
UPPER: Final = np.radians([150.0, 180.0, 0.0, 100.0, 70.0, 120.0])
TEACHING: Final = 2
FALL: Final = 1.0
"""Speed of joints 2 and 3 that have no torque, down to where the arm rests [rad/s]."""


class EmulatedPiper:
    """An arm on a bus, from `start` to `close`. Everything that tests do to it may be done while it runs.

    Attributes:
        positions: float64[6] of its joints [rad].
        width: opening of its gripper [m].
        flags: of its six motors, beside `ENABLED_FLAG`: faults that are planted.
        obstacle: width that the gripper cannot close below [m].
    """

    def __init__(self, channel: str, interface: str = "virtual", positions: Sequence[float] | None = None) -> None:
        """Plug it in.

        Args:
            channel: name of the bus.
            interface: kind of bus that python-can knows.
            positions: float64[6] at which it starts [rad]; without, where it rests.
        """
        import can

        self._can = can
        self.channel = channel
        self._bus = can.Bus(channel=channel, interface=interface)
        self.positions: NDArray[np.float64] = np.zeros(frames.JOINTS) if positions is None else np.array(positions)
        self._velocities = np.zeros(frames.JOINTS)
        self._targets = self.positions.copy()
        self._enabled = np.zeros(frames.JOINTS, dtype=bool)
        self.flags = [0] * frames.JOINTS
        self.width, self._width_target = 0.0, 0.0
        self.obstacle = 0.0
        self._gripper_enabled, self._gripper_effort = False, 0
        self._control, self._state, self._speed = frames.STANDBY, 0, 0.0
        self._stopped = False
        self._silent: frozenset[int] = frozenset()
        self._deaf = False
        self._cycle = 0
        self.commands: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emulated Piper", daemon=True)

    def start(self) -> EmulatedPiper:
        """Switch it on."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Pull its plug, in whatever motion it is. A second call does nothing."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bus.shutdown()

    @property
    def enabled(self) -> bool:
        """Whether all six motors have torque."""
        with self._lock:
            return bool(self._enabled.all())

    @enabled.setter
    def enabled(self, on: bool) -> None:
        with self._lock:
            self._enabled[:] = on

    @property
    def taught(self) -> bool:
        """Whether it follows the hand that leads it."""
        return self._control == TEACHING

    @property
    def speed(self) -> float:
        """How fast its fastest joint is [rad/s]."""
        with self._lock:
            return float(np.abs(self._velocities).max())

    def silence(self, *identifiers: int) -> None:
        """Send no more frames with these identifiers; none at all without any."""
        with self._lock:
            self._silent = frozenset(identifiers) or frozenset(range(0x800))

    def speak(self) -> None:
        """Send everything again."""
        with self._lock:
            self._silent = frozenset()

    def bus_off(self) -> None:
        """Have the computer's CAN controller give up: an error frame of Linux tells so, and nothing comes through."""
        self._bus.send(self._can.Message(arbitration_id=frames.ERROR_BUS_OFF, is_error_frame=True, data=bytes(8)))
        with self._lock:
            self._deaf = True
        self.silence()

    def bus_on(self) -> None:
        """Have the controller begin anew, as after restart-ms: everything comes through again."""
        with self._lock:
            self._deaf = False
        self.speak()

    def say(self, identifier: int, data: bytes) -> None:
        """Send a frame of whatever content."""
        self._send(identifier, data)

    def emergency_stop(self) -> None:
        """Press its button: it stands, and follows nobody until it is reset."""
        with self._lock:
            self._stopped, self._state = True, 0x01

    def take_over(self) -> None:
        """Press the button for teaching: the arm no longer follows the bus."""
        with self._lock:
            self._control = TEACHING

    # What follows is the arm itself.

    def _run(self) -> None:
        period, due = 1.0 / RATE, time.monotonic()
        while not self._end.is_set():
            self._hear()
            with self._lock:
                self._step(period)
                feedback = self._feedback()
            for identifier, data in feedback:
                self._send(identifier, data)
            due = max(due + period, time.monotonic() - 0.1)  # a machine that stood still is not made up for
            self._end.wait(max(0.0, due - time.monotonic()))

    def _hear(self) -> None:
        while (message := self._bus.recv(0.0)) is not None:
            data = bytes(message.data)
            with self._lock:
                if not self._deaf and not message.is_error_frame and len(data) == 8:
                    self.commands.append((message.arbitration_id, data))
                    del self.commands[:-1000]
                    self._obey(message.arbitration_id, data)

    def _obey(self, identifier: int, data: bytes) -> None:
        if identifier == frames.MODE and self._control != TEACHING:
            self._control, self._speed = data[0], min(data[2], 100) / 100.0
        elif identifier in frames.JOINT_TARGETS and self._control == frames.CAN_CONTROL and not self._stopped:
            first = 2 * frames.JOINT_TARGETS.index(identifier)
            self._targets[first : first + 2] = np.clip(
                units.angles(frames.unpack_pair(data)), LOWER[first : first + 2], UPPER[first : first + 2]
            )
        elif identifier == frames.GRIPPER_TARGET:
            opening, self._gripper_effort, action = frames.unpack_gripper_target(data)
            self._gripper_enabled = bool(action & 1)
            self._width_target = min(max(opening * units.LENGTH, 0.0), GRIPPER_OPENING)
        elif identifier == frames.TORQUE:
            motors = slice(None) if data[0] in frames.ALL_MOTORS else slice(data[0] - 1, data[0])
            enabling = data[1] == frames.ENABLE
            self._targets[motors] = np.where(
                self._enabled[motors] & enabling, self._targets[motors], self.positions[motors]
            )
            self._enabled[motors] = enabling
        elif identifier == frames.STOP and data[0] == frames.QUICK_STOP:
            self._stopped, self._state = True, 0x01
        elif identifier == frames.STOP and data[0] == frames.RESUME:
            self._stopped, self._state = False, 0
            self._enabled[:] = False
        elif identifier == frames.QUERY:
            for piece in (b"H-V1.2-1", b"  S-V1.8", b"-5      "):
                self._send(frames.FIRMWARE, piece)

    def _step(self, period: float) -> None:
        wanted = np.clip(
            STIFFNESS * (self._targets - self.positions), -TOP_SPEED * self._speed, TOP_SPEED * self._speed
        )
        if self._stopped:
            wanted[:] = 0.0
        fallen = np.array([0.0, -FALL, FALL, 0.0, 0.0, 0.0])
        wanted = np.where(self._enabled, wanted, fallen)
        change = ACCELERATION * period
        self._velocities += np.clip(wanted - self._velocities, -change, change)
        moved = self.positions + self._velocities * period
        self.positions = np.clip(moved, LOWER, UPPER)
        self._velocities[moved != self.positions] = 0.0
        if self._stopped:
            self._targets = self.positions.copy()
        if self._gripper_enabled:
            step = GRIPPER_SPEED * period
            width = self.width + min(max(self._width_target - self.width, -step), step)
            self.width = max(width, min(self.width, self.obstacle))

    def _feedback(self) -> list[tuple[int, bytes]]:
        counts = units.angle_counts(self.positions)
        speeds = [round(speed / units.SPEED) for speed in self._velocities]
        currents = [200 + abs(speed) // 10 if on else 0 for speed, on in zip(speeds, self._enabled, strict=True)]
        moving = bool(np.abs(self._velocities).max() > 0.01)
        flags = self.flags
        silent = sum(bool(each & 1 << 5) << motor for motor, each in enumerate(flags))
        said = [(frames.STATUS, frames.status(self._control, self._state, moving, 0, silent))]
        said += [
            (identifier, frames.pair(*counts[2 * index : 2 * index + 2]))
            for index, identifier in enumerate(frames.JOINT_FEEDBACK)
        ]
        squeezed = self._gripper_enabled and self._width_target < self.width - 1e-6 <= self.obstacle
        gripper_flags = frames.ENABLED_FLAG * self._gripper_enabled
        said.append(
            (
                frames.GRIPPER_FEEDBACK,
                frames.gripper(units.length_count(self.width), self._gripper_effort if squeezed else 0, gripper_flags),
            )
        )
        said += [
            (identifier, frames.fast(speeds[motor], currents[motor], counts[motor]))
            for motor, identifier in enumerate(frames.FAST_FEEDBACK)
        ]
        if self._cycle % SLOW_EVERY == 0:
            said += [
                (
                    identifier,
                    frames.slow(240, 31, 33, flags[motor] | frames.ENABLED_FLAG * int(self._enabled[motor]), 300),
                )
                for motor, identifier in enumerate(frames.SLOW_FEEDBACK)
            ]
        self._cycle += 1
        return said

    def _send(self, identifier: int, data: bytes) -> None:
        if identifier not in self._silent:
            self._bus.send(self._can.Message(arbitration_id=identifier, data=data, is_extended_id=False))
