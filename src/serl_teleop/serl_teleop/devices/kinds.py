# SPDX-License-Identifier: Apache-2.0
"""Which kinds of devices there are, and how a person uses each of them unless they say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_HALF_TURNS: Final = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Kind:
    """A kind of device, with the defaults of the node's parameters."""

    name: str
    description: str
    axes: tuple[str, ...] = ("forward", "left", "up", "roll", "pitch", "yaw")
    scale: tuple[float, ...] = _HALF_TURNS
    deadband: float = 0.1
    start_time: float = 0.04  # [s]
    release_time: float = 0.3  # [s]
    stuck_time: float = 10.0  # [s]; 0: it cannot get stuck
    buttons: tuple[str, ...] = ()
    is_arm: bool = False
    """Whether it is an arm, which says itself when it is held and what it wants: it has no axes to be mapped."""


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                "spacemouse",
                "SpaceMouse of 3Dconnexion, wired or wireless, without a driver",
                buttons=("left=toggle", "right=success"),
            ),
            Kind(
                "gamepad",
                "game pad, by SDL",
                buttons=(
                    *("leftshoulder=lead", "a=toggle", "start=success", "back=failure"),
                    *("x=discard", "rightshoulder=rewind", "y=pause", "b=ready"),
                ),
            ),
            Kind(
                "keyboard",
                "keyboard of the terminal",
                scale=(0.5,) * 6,
                deadband=0.0,
                start_time=0.0,
                stuck_time=0.0,
                buttons=(
                    *("space=toggle", "enter=success", "backspace=failure"),
                    *("x=discard", "z=rewind", "p=pause", "y=ready"),
                ),
            ),
            Kind("joy", "sensor_msgs/Joy of any driver", buttons=("0=toggle",)),
            Kind("twist", "geometry_msgs/TwistStamped of any teleoperation", deadband=0.02),
            Kind("leader", "SO-101 leader arm at a serial port", is_arm=True),
            Kind("joint_leader", "leader arm whose driver publishes joint_states", is_arm=True),
        )
    }
)
"""All kinds, by name."""
