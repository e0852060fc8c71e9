# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a bus of servos. Each message is one line: port, servo, what was found, what to do."""

from __future__ import annotations


class FeetechError(Exception):
    """The bus, or a servo on it, does not do what it should."""


class PortError(FeetechError):
    """The serial port cannot be opened, or is gone."""


class NoAnswer(FeetechError):
    """A servo did not answer in time, or nothing that could be read.

    Attributes:
        missing: ids of those that did not answer.
    """

    def __init__(self, message: str, missing: tuple[int, ...]) -> None:
        super().__init__(message)
        self.missing = missing


class ServoFault(FeetechError):
    """A servo says that something is wrong with it: it is too hot, blocked, or its supply is not as it should be."""
