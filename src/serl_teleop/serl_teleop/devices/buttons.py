# SPDX-License-Identifier: Apache-2.0
"""What the buttons of a device are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from serl_teleop.devices.axes import MappingError


class Function(Enum):
    """What a button does."""

    SUCCESS = "success"
    """Says that the episode has succeeded."""
    FAILURE = "failure"
    """Says that it has failed."""
    DISCARD = "discard"
    """Says that it is to be forgotten."""
    REWIND = "rewind"
    """Says that its last seconds are to be forgotten."""
    PAUSE = "pause"
    """Says that no episode is to run; pressed again, that they go on."""
    READY = "ready"
    """Says that everything is in place for the next episode."""
    CLOSE = "close"
    """Closes the gripper."""
    OPEN = "open"
    """Opens the gripper."""
    TOGGLE = "toggle"
    """Closes an open gripper, and opens a closed one."""
    LEAD = "lead"
    """The person leads while it is held, and only then: a deadman."""

    @property
    def is_word(self) -> bool:
        """Whether it is something that the person says, and not a motion."""
        return self in _WORDS

    @property
    def is_gripper(self) -> bool:
        """Whether it moves the gripper."""
        return self in (Function.CLOSE, Function.OPEN, Function.TOGGLE)


_WORDS = (
    Function.SUCCESS,
    Function.FAILURE,
    Function.DISCARD,
    Function.REWIND,
    Function.PAUSE,
    Function.READY,
)


def parse_buttons(texts: Iterable[str]) -> dict[str, Function]:
    """Read the functions of buttons as people write them, `BUTTON=FUNCTION` each.

    Raises:
        MappingError: says which one, what was expected and what was found.
    """
    functions: dict[str, Function] = {}
    for text in filter(None, texts):  # a list parameter of ROS cannot be empty without losing its type
        button, separator, word = (part.strip() for part in text.partition("="))
        known = [function.value for function in Function]
        if not separator or not button or word not in known:
            raise MappingError(f"buttons: expected BUTTON=FUNCTION with one of {', '.join(known)}, found {text!r}")
        if button in functions:
            raise MappingError(f"buttons: {button} has two functions, {functions[button].value} and {word}")
        functions[button] = Function(word)
    return functions


class Buttons:
    """Follows the buttons of one device: what is pressed counts once, however long it is held."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        """Give buttons their functions, by name; others do nothing."""
        self._functions = dict(functions)
        self._held: frozenset[str] = frozenset()
        self.has_deadman = Function.LEAD in self._functions.values()
        self.gripper: float | None = None
        """What was asked of the gripper while the person leads, -1 closed or 1 open; None: nothing yet."""

    def press(self, held: frozenset[str], gripper: float) -> tuple[Function, ...]:
        """Take in which buttons are held; returns the words that are said by those newly pressed.

        Args:
            held: names.
            gripper: what is commanded of the gripper now, -1 closed to 1 open, for TOGGLE.
        """
        pressed = [self._functions[name] for name in sorted(held - self._held) if name in self._functions]
        self._held = held
        for function in pressed:
            if function is Function.TOGGLE:
                before = gripper if self.gripper is None else self.gripper
                self.gripper = 1.0 if before < 0.0 else -1.0
            elif function.is_gripper:
                self.gripper = -1.0 if function is Function.CLOSE else 1.0
        return tuple(function for function in pressed if function.is_word)

    def holds(self, *functions: Function) -> bool:
        """Whether a button of one of these functions is held."""
        return any(self._functions.get(name) in functions for name in self._held)

    @property
    def holds_gripper(self) -> bool:
        """Whether a button of the gripper is held."""
        return self.holds(Function.CLOSE, Function.OPEN, Function.TOGGLE)
