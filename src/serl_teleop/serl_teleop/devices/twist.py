# SPDX-License-Identifier: Apache-2.0
"""`geometry_msgs/TwistStamped` as a device, so that any teleoperation of ROS leads.

Works on anything with the fields of the message.
"""

from __future__ import annotations

import math
from typing import Any

from serl_tasks.messages import MessageError

from serl_teleop.devices.device import DeviceState


def twist_state(message: Any, full_linear: float, full_angular: float, stamp: float) -> DeviceState:
    """Read a geometry_msgs/TwistStamped.

    Args:
        message: with header and twist.
        full_linear: what is full deflection [m/s], or 1 for twists that are in [-1, 1] already.
        full_angular: the same for turns [rad/s].
        stamp: local time of its arrival [s, monotonic].

    Raises:
        MessageError: a number is not finite.
    """
    linear, angular = message.twist.linear, message.twist.angular
    values = [
        *(number / full_linear for number in (linear.x, linear.y, linear.z)),
        *(number / full_angular for number in (angular.x, angular.y, angular.z)),
    ]
    if not all(map(math.isfinite, values)):
        raise MessageError(f"twist: expected finite numbers, found {values}")
    x, y, z, roll, pitch, yaw = (min(max(value, -1.0), 1.0) for value in values)
    return DeviceState((x, y, z, roll, pitch, yaw), stamp=stamp)
