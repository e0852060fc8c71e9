# SPDX-License-Identifier: Apache-2.0
"""A virtual pad of SDL, read as a real one is; where ./serl setup gamepad has brought SDL."""

import importlib.util

import pytest
from serl_teleop.devices.device import REST, DeviceError
from serl_teleop.devices.gamepad import Gamepad, load_sdl

INSTALLED = importlib.util.find_spec("sdl2") is not None
FULL = 32767
AXES, BUTTONS = 6, 15


@pytest.mark.skipif(INSTALLED, reason="SDL is installed")
def test_without_sdl_the_command_that_brings_it_is_named():
    with pytest.raises(DeviceError, match=r"\./serl setup gamepad"):
        Gamepad()


class Pad:
    """Plugged in until `unplug`."""

    def __init__(self) -> None:
        self.sdl = load_sdl()
        self.index = self.sdl.SDL_JoystickAttachVirtual(self.sdl.SDL_JOYSTICK_TYPE_GAMECONTROLLER, AXES, BUTTONS, 0)
        assert self.index >= 0, self.sdl.SDL_GetError()
        self.joystick = self.sdl.SDL_JoystickOpen(self.index)
        for trigger in (self.sdl.SDL_CONTROLLER_AXIS_TRIGGERLEFT, self.sdl.SDL_CONTROLLER_AXIS_TRIGGERRIGHT):
            self.deflect(trigger, -FULL - 1)

    def deflect(self, axis: int, value: int) -> None:
        assert self.sdl.SDL_JoystickSetVirtualAxis(self.joystick, axis, value) == 0

    def press(self, button: int, down: bool) -> None:
        assert self.sdl.SDL_JoystickSetVirtualButton(self.joystick, button, down) == 0

    def unplug(self) -> None:
        assert self.sdl.SDL_JoystickDetachVirtual(self.index) == 0
        self.sdl.SDL_JoystickUpdate()


@pytest.mark.skipif(not INSTALLED, reason="SDL is not installed: ./serl setup gamepad")
def test_a_pad_leads_and_its_unplugging_is_named():
    with pytest.raises(DeviceError, match="no game pad"):
        Gamepad()
    plugged = Pad()
    sdl, pad = plugged.sdl, Gamepad()
    assert pad.read(1.0).twist == pytest.approx(REST, abs=1e-4)
    for axis, value, index, expected in (
        (sdl.SDL_CONTROLLER_AXIS_LEFTY, -FULL, 0, 1.0),
        (sdl.SDL_CONTROLLER_AXIS_LEFTX, -FULL - 1, 1, 1.0),
        (sdl.SDL_CONTROLLER_AXIS_RIGHTY, FULL, 2, -1.0),
        (sdl.SDL_CONTROLLER_AXIS_RIGHTX, FULL, 5, -1.0),
    ):
        plugged.deflect(axis, value)
        state = pad.read(1.0)
        state.check()
        assert state.twist[index] == expected
        plugged.deflect(axis, 0)
    plugged.deflect(sdl.SDL_CONTROLLER_AXIS_TRIGGERRIGHT, FULL)
    assert pad.read(1.0).twist[3] == pytest.approx(1.0, abs=1e-4)
    plugged.press(sdl.SDL_CONTROLLER_BUTTON_LEFTSHOULDER, True)
    assert pad.read(1.0).buttons == {"leftshoulder"}
    plugged.unplug()
    with pytest.raises(DeviceError, match="unplugged"):
        pad.read(1.1)
    pad.close()
    pad.close()
