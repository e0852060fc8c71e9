# SPDX-License-Identifier: Apache-2.0
"""What a browser may say to the console: each message is checked, and has a budget."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from serl_config.strict_json import JsonError, parse_json
from serl_config.text import shown

from serl_teleop.console.lead import Jog

MOST_BYTES = 4096
"""Longest message that a browser may send."""
GRIPPER = "gripper"

_LARGEST_NUMBER = 2**53


class RequestError(ValueError):
    """A message that cannot be used: names the field, what was expected and what was found."""


@dataclass(frozen=True)
class Seen:
    """The page has shown something, and may get the next one."""

    camera: str
    """Empty: it was a state."""
    number: int


@dataclass(frozen=True)
class Watch:
    """Cameras whose pictures the page wants from now on."""

    cameras: tuple[str, ...]


@dataclass(frozen=True)
class Hold:
    """The person holds something that moves the arm."""

    number: int
    state: int
    """Number of the newest state that the page has shown."""
    jog: Jog


@dataclass(frozen=True)
class LetGo:
    """The person has let go."""

    number: int


@dataclass(frozen=True)
class Stop:
    """E-stop."""


@dataclass(frozen=True)
class Release:
    """The person releases the e-stop."""


@dataclass(frozen=True)
class Do:
    """A button: one of the robot's `deeds`."""

    deed: str


Request = Seen | Watch | Hold | LetGo | Stop | Release | Do


def parse(text: str, *, components: Collection[str], cameras: Collection[str], deeds: Collection[str]) -> Request:
    """Read one message of a browser.

    Args:
        text: JSON.
        components: of the task's action.
        cameras: that there are.
        deeds: that there are.

    Raises:
        RequestError: it is no message that is known, or a value is out of its range.
    """
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise RequestError(f"message: expected at most {MOST_BYTES} bytes, found {len(text)} characters")
    try:
        data = parse_json(text, size=MOST_BYTES, depth=4)
    except JsonError as error:
        raise RequestError(f"message: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(f"message: expected an object with 'type', found {shown(data)}")
    match data.get("type"):
        case "estop":
            return Stop()
        case "release":
            return Release()
        case "let_go":
            return LetGo(_number(data, "hold"))
        case "seen":
            camera = data.get("camera", "")
            if camera not in ("", *cameras):
                raise RequestError(f"camera: expected one of {', '.join(cameras) or 'none'}, found {shown(camera)}")
            return Seen(camera, _number(data, "number"))
        case "watch":
            wanted = data.get("cameras")
            if not isinstance(wanted, list) or not all(camera in cameras for camera in wanted):
                raise RequestError(f"cameras: expected some of {', '.join(cameras) or 'none'}, found {shown(wanted)}")
            return Watch(tuple(dict.fromkeys(wanted)))
        case "hold":
            return Hold(_number(data, "hold"), _number(data, "state"), _jog(data, components))
        case "do":
            if not isinstance(data.get("deed"), str) or data["deed"] not in deeds:
                raise RequestError(f"deed: expected one of {', '.join(deeds)}, found {shown(data.get('deed'))}")
            return Do(data["deed"])
        case kind:
            raise RequestError(f"type: expected seen, watch, hold, let_go, estop, release or do, found {shown(kind)}")


def _jog(data: Mapping[str, Any], components: Collection[str]) -> Jog:
    action = data.get("action", {})
    if not isinstance(action, dict):
        raise RequestError(f"action: expected an object, found {shown(action)}")
    for name, value in action.items():
        if name not in components:
            raise RequestError(f"action: expected some of {', '.join(components)}, found {shown(name)}")
        if type(value) not in (int, float) or not -1.0 <= value <= 1.0:
            raise RequestError(f"action.{name}: expected a number in [-1, 1], found {shown(value)}")
    deltas = {name: float(value) for name, value in action.items() if name != GRIPPER}
    return Jog(deltas, float(action[GRIPPER]) if GRIPPER in action else None)


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if type(value) is not int or not 0 <= value < _LARGEST_NUMBER:
        raise RequestError(f"{name}: expected a whole number from 0, found {shown(value)}")
    return value


class Budget:
    """So many messages a second, and a burst of twice as many (a token bucket)."""

    def __init__(self, rate: float) -> None:
        """Allow `rate` messages a second on average."""
        self._rate, self._left, self._at = rate, 2.0 * rate, 0.0

    def allows(self, now: float) -> bool:
        """Whether one more message is within the budget at the time `now` [s]; it counts if it is."""
        self._left = min(2.0 * self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
