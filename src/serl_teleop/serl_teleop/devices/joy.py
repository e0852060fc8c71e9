# SPDX-License-Identifier: Apache-2.0
"""`sensor_msgs/Joy` as a device: `joy_node`, `game_controller_node`, `spacenav_node`, and whatever else publishes it.

Works on anything with the fields of the message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from serl_tasks.messages import MessageError

from serl_teleop.devices.device import AXES, DeviceState

_MOST_BUTTONS = 256


def joy_state(message: Any, indices: Sequence[int], stamp: float) -> DeviceState:
    """Read a sensor_msgs/Joy; its buttons are called by their numbers.

    Args:
        message: with axes and buttons.
        indices: for each of `AXES` the number of the message's axis, -1 for none; numbers the message lacks are errors.
        stamp: local time of its arrival [s, monotonic].

    Raises:
        MessageError: an axis is not there or not finite, or there are more than 256 buttons.
    """
    values = []
    for name, index in zip(AXES, indices, strict=True):
        if index >= len(message.axes):
            raise MessageError(f"axes: expected one of number {index} for {name}, found {len(message.axes)} axes")
        value = 0.0 if index < 0 else float(message.axes[index])
        if not math.isfinite(value):
            raise MessageError(f"axes: expected a finite number at {index}, found {value}")
        values.append(min(max(value, -1.0), 1.0))
    if len(message.buttons) > _MOST_BUTTONS:
        raise MessageError(f"buttons: expected at most {_MOST_BUTTONS}, found {len(message.buttons)}")
    x, y, z, roll, pitch, yaw = values
    held = frozenset(str(number) for number, value in enumerate(message.buttons) if value)
    return DeviceState((x, y, z, roll, pitch, yaw), held, stamp=stamp)
