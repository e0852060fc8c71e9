# SPDX-License-Identifier: Apache-2.0
"""A device whose reports arrive as messages of somebody else's driver."""

from __future__ import annotations

from serl_teleop.devices.device import DeviceError, DeviceState


class TopicDevice:
    """Keeps the newest report, and notices when the driver falls silent in the middle of a motion."""

    def __init__(self, topic: str, timeout: float) -> None:
        """Begin unheard; a silence of `timeout` [s] while the device is touched is one too many."""
        self._topic, self._timeout = topic, timeout
        self._state: DeviceState | None = None

    @property
    def description(self) -> str:
        """Name of the topic."""
        return f"topic {self._topic}"

    def take(self, state: DeviceState) -> None:
        """Take in a report."""
        self._state = state

    def read(self, now: float) -> DeviceState | None:
        """Return the newest state; see `Device`.

        Raises:
            DeviceError: the driver has fallen silent.
        """
        state = self._state
        if state is not None and state.is_touched and now - state.stamp > self._timeout:
            raise DeviceError(
                f"{self._topic}: nothing for {self._timeout:g} s while the device was away from rest; a driver that "
                "reports changes alone has to repeat them (autorepeat_rate of joy_node)"
            )
        return state

    def close(self) -> None:
        """Forget what was heard; what is heard next counts again."""
        self._state = None
