# SPDX-License-Identifier: Apache-2.0
"""A game pad, by SDL, which knows the layout of nearly all of them. Needs the extra `gamepad`."""

from __future__ import annotations

from typing import Any, Final

from serl_config.optional import optional_module

from serl_teleop.devices.device import DeviceError, DeviceState

_FULL: Final = 32767


def load_sdl() -> Any:
    """Start SDL's game pads and return its module.

    Raises:
        DeviceError: it is not installed, or does not start.
    """
    sdl2 = optional_module("sdl2", extra="gamepad", needed_by="gamepad: SDL", error=DeviceError)
    for hint in (sdl2.SDL_HINT_NO_SIGNAL_HANDLERS, sdl2.SDL_HINT_JOYSTICK_ALLOW_BACKGROUND_EVENTS):
        sdl2.SDL_SetHint(hint, b"1")
    if sdl2.SDL_Init(sdl2.SDL_INIT_GAMECONTROLLER) != 0:
        raise DeviceError(f"gamepad: SDL does not start: {sdl2.SDL_GetError().decode(errors='replace')}")
    return sdl2


class Gamepad:
    """Reads the first one that is plugged in; see `Device`.

    The left stick is forward and left, the right one up and yaw; the triggers roll, the right one to the right. Buttons
    have SDL's names: `a`, `leftshoulder`, `dpup`, ...
    """

    def __init__(self) -> None:
        """Open it.

        Raises:
            DeviceError: SDL is not installed, or no game pad is plugged in.
        """
        self._sdl = sdl = load_sdl()
        sdl.SDL_JoystickUpdate()
        count = sdl.SDL_NumJoysticks()
        index = next((index for index in range(count) if sdl.SDL_IsGameController(index)), None)
        self._pad = None if index is None else sdl.SDL_GameControllerOpen(index)
        if not self._pad:
            raise DeviceError(f"no game pad is plugged in; of {count} joysticks SDL knows none as one")
        self._buttons = {
            sdl.SDL_GameControllerGetStringForButton(button).decode(): button
            for button in range(sdl.SDL_CONTROLLER_BUTTON_MAX)
        }

    @property
    def description(self) -> str:
        """Name of the pad."""
        name = self._sdl.SDL_GameControllerName(self._pad)
        return f"game pad {name.decode(errors='replace') if name else ''}".strip()

    def read(self, now: float) -> DeviceState:
        """Return the newest state; see `Device`.

        Raises:
            DeviceError: it was unplugged.
        """
        sdl, pad = self._sdl, self._pad
        sdl.SDL_GameControllerUpdate()
        if not pad or not sdl.SDL_GameControllerGetAttached(pad):
            raise DeviceError("the game pad is gone; was it unplugged?")

        def axis(number: int) -> float:
            return max(sdl.SDL_GameControllerGetAxis(pad, number) / _FULL, -1.0)

        twist = (
            -axis(sdl.SDL_CONTROLLER_AXIS_LEFTY),
            -axis(sdl.SDL_CONTROLLER_AXIS_LEFTX),
            -axis(sdl.SDL_CONTROLLER_AXIS_RIGHTY),
            axis(sdl.SDL_CONTROLLER_AXIS_TRIGGERRIGHT) - axis(sdl.SDL_CONTROLLER_AXIS_TRIGGERLEFT),
            0.0,
            -axis(sdl.SDL_CONTROLLER_AXIS_RIGHTX),
        )
        held = (name for name, button in self._buttons.items() if sdl.SDL_GameControllerGetButton(pad, button))
        return DeviceState(twist, frozenset(held), stamp=now)

    def close(self) -> None:
        """Let go of it. A second call does nothing."""
        if self._pad:
            self._sdl.SDL_GameControllerClose(self._pad)
        self._pad = None
