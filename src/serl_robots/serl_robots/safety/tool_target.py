# SPDX-License-Identifier: Apache-2.0
"""What a filter of tool poses is asked for, and what it commands."""

from typing import NamedTuple

from serl_robots.model.pose import Quaternion, Vector3


class ToolTarget(NamedTuple):
    """A tool pose in the base frame, in plain numbers."""

    position: Vector3  # [m]
    quaternion: Quaternion  # xyzw
