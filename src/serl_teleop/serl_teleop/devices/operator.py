# SPDX-License-Identifier: Apache-2.0
"""One device in a person's hand: whether they lead by it, what they want, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serl_teleop.devices.axes import AxisMapping, Twist
from serl_teleop.devices.buttons import Buttons, Function
from serl_teleop.devices.device import REST, DeviceError, DeviceState, Motion
from serl_teleop.devices.takeover import Phase, StuckAxes, Takeover, Timing


@dataclass(frozen=True)
class DeviceSettings:
    """How a person uses a device."""

    axes: AxisMapping
    timing: Timing
    buttons: Mapping[str, Function] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intent:
    """What a person wants by a device in this moment."""

    phase: Phase
    twist: Twist = REST
    """What is asked of dx dy dz rx ry rz, in [-1, 1], along the axes of the person's frame; zeros unless they lead."""
    gripper: float | None = None
    """-1 closed to 1 open; None: as it is commanded."""
    words: tuple[Function, ...] = ()
    """What was newly said: success, failure, discard."""
    problem: str = ""
    """Why the device cannot lead; empty while it can."""
    motion: Motion | None = None
    """What is asked of the tool instead of `twist`, by a device that knows the robot."""


class Operator:
    """Follows one device. Knows no clock: each call says the local time [s, monotonic]."""

    def __init__(self, name: str, settings: DeviceSettings) -> None:
        """Begin without a device; `name` is for people."""
        self.name, self._settings = name, settings
        self._buttons = Buttons(settings.buttons)
        # With a deadman the hand says itself when it lets go.
        timing = Timing(0.0, 0.0, settings.timing.stuck) if self._buttons.has_deadman else settings.timing
        self.takeover = Takeover(timing)
        self._stuck = StuckAxes(timing.stuck, settings.axes.deadband)

    def hear(self, state: DeviceState | None, gripper: float, now: float) -> Intent:
        """Take in what the device reports.

        Args:
            state: None where it has reported nothing yet.
            gripper: what is commanded of the gripper, -1 closed to 1 open.
            now: local time [s, monotonic].
        """
        if state is None:
            return self.lose("nothing reported yet")
        try:
            state.check()
        except DeviceError as error:
            return self.lose(str(error), present=True)
        stuck = self._stuck.find(state.twist, now)
        words = self._buttons.press(state.buttons, gripper)
        if stuck:
            text = f"axis {stuck} has shown the same for {self._settings.timing.stuck:g} s; is something lying on it?"
            return self.lose(text, present=True)
        phase = self.takeover.update(self._wants(state), now, deliberate=self._buttons.holds_gripper)
        if phase is not Phase.LEADING:
            self._buttons.gripper = None
            return Intent(phase, words=words, problem=self._what_to_do(phase))
        twist = REST if self._buttons.has_deadman and not self._wants(state) else self._settings.axes.apply(state.twist)
        wanted = self._buttons.gripper if state.gripper is None else state.gripper
        return Intent(phase, twist, wanted, words, motion=state.motion)

    @property
    def lines(self) -> tuple[str, ...]:
        """How the device is used, for people, a line for each thing."""
        timing, settings = self._settings.timing, self._settings
        when = f"you lead {timing.start:g} s away from rest, and have let go after {timing.release:g} s at rest"
        if self._buttons.has_deadman:
            held = " or ".join(name for name, function in settings.buttons.items() if function is Function.LEAD)
            when = f"you lead while {held} is held"
        return (
            *settings.axes.lines,
            f"dead band {settings.axes.deadband:g}; {when}" if settings.axes.lines else when,
            *(f"button {name} = {function.value}" for name, function in settings.buttons.items()),
        )

    def lose(self, problem: str, *, present: bool = False) -> Intent:
        """The device is gone, or (`present`) what it reports cannot be believed."""
        self._buttons.gripper = None
        return Intent(self.takeover.lose(present=present), problem=problem)

    def overrule(self) -> None:
        """Somebody of higher priority leads."""
        self._buttons.gripper = None
        self.takeover.overrule()

    def _what_to_do(self, phase: Phase) -> str:
        if phase is not Phase.HOLDING:
            return ""
        return "the device is back; take it to go on" if self.takeover.has_rested else "the device is back; let it go"

    def _wants(self, state: DeviceState) -> bool:
        if self._buttons.has_deadman:
            return self._buttons.holds(Function.LEAD)
        return self._settings.axes.is_away(state.twist) or self._buttons.holds_gripper
