# SPDX-License-Identifier: Apache-2.0
"""A leader whose driver publishes `joint_states`: a GELLO, or any other arm that is moved by hand.

Works on anything with the fields of sensor_msgs/JointState.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from serl_tasks.messages import MessageError

from serl_teleop.devices.device import DeviceError
from serl_teleop.devices.leader.arm import LeaderReading
from serl_teleop.devices.leader.chain import Joints

_MOST_JOINTS: Final = 256
_FARTHEST: Final = 1e3  # [rad]: numbers beyond are a mistake


class TopicLeader:
    """Keeps the newest joint states, and says where the arm is to go; see `LeaderHardware`."""

    def __init__(
        self,
        topic: str,
        joints: Sequence[str],
        handle: tuple[str, float, float] | None,
        timeout: float,
        send: Callable[[Joints], None] | None,
    ) -> None:
        """Begin unheard.

        Args:
            topic: for people.
            joints: names of the leader's joints, in the order of those of the robot.
            handle: name of its joint, and its positions where the gripper is closed and open; None: it has none.
            timeout: longest silence of the driver [s].
            send: publishes angles (n,) [rad] to which the driver moves the arm; None: it is moved by hand alone.
        """
        self._topic, self._joints, self._handle = topic, tuple(joints), handle
        self._timeout, self._send = timeout, send
        self._reading: LeaderReading | None = None
        self._heard_at = -math.inf
        self.is_driven = send is not None

    @property
    def description(self) -> str:
        """Its topic."""
        return f"leader at topic {self._topic}"

    def take(self, message: Any, now: float) -> None:
        """Take in a JointState that arrived at a local time [s, monotonic].

        Raises:
            MessageError: a joint is not in it, or has no sensible position.
        """
        if len(message.name) > _MOST_JOINTS or len(message.position) != len(message.name):
            raise MessageError(
                f"position: expected one for each of at most {_MOST_JOINTS} names, found {len(message.position)} for "
                f"{len(message.name)}"
            )
        positions = dict(zip(message.name, message.position, strict=True))
        joints = np.array([self._position(positions, name) for name in self._joints])
        share = None
        if self._handle is not None:
            name, closed, opened = self._handle
            share = min(max((self._position(positions, name) - closed) / (opened - closed), 0.0), 1.0)
        self._reading, self._heard_at = LeaderReading(joints, share), now

    def read(self, now: float) -> LeaderReading | None:
        """Where it is; see `LeaderHardware`.

        Raises:
            DeviceError: its driver has fallen silent.
        """
        reading = self._reading
        if reading is not None and now - self._heard_at > self._timeout:
            raise DeviceError(f"{self._topic}: nothing for {self._timeout:g} s; is the leader's driver alive?")
        return reading

    def send(self, joints: Joints, handle: float, *, held: bool) -> None:
        """Say to which angles `joints` (n,) [rad] it is to go; its driver decides how gently."""
        if self._send is not None:
            self._send(joints)

    def close(self) -> None:
        """Forget what was heard; what is heard next counts again."""
        self._reading = None

    def _position(self, positions: dict[str, float], name: str) -> float:
        value = positions.get(name)
        if value is None:
            found = ", ".join(positions) or "none"
            raise MessageError(f"name: expected joint {name!r} among them, found {found[:200]}")
        if not abs(value) <= _FARTHEST:  # also of NaN
            raise MessageError(f"position of {name!r}: expected a finite number, found {value}")
        return float(value)
