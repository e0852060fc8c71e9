# SPDX-License-Identifier: Apache-2.0
"""The vendor's SDK on a bus, and when each kind of frame was heard last.

What the SDK (`piper_sdk` 0.6.2) leaves to whoever uses it: it keeps one object for each name of a bus, whose thread
for reading does not begin anew; a bus that cannot be opened, or a frame that cannot be sent, is a line in a log and no
error; `isOk` goes on to be true on a silent bus; joint positions of three frames share one stamp, so that a part of
them may be old; a damaged frame is read as far as it goes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any, Final

from serl_config.optional import optional_module

from serl_drivers.piper import frames

FRAME_BYTES: Final = 8


class LinkError(Exception):
    """The bus, or the SDK, is not there. The message is one line without the bus's name."""


def load_sdk() -> Any:
    """The module `piper_sdk`.

    Raises:
        LinkError: they are not installed.
    """
    return optional_module("piper_sdk", extra="piper", needed_by="the vendor's SDK", error=LinkError)


class PiperLink:
    """The SDK on an open bus. Frames arrive in a thread of the SDK's; commands are sent by one thread.

    Attributes:
        sdk: the vendor's `C_PiperInterface_V2`, connected. A command of it raises LinkError where it cannot be sent.
        damaged: how many frames of another length than 8 bytes were dropped.
    """

    def __init__(self, channel: str, interface: str, bitrate: int) -> None:
        """Open the bus and begin to listen.

        Args:
            channel: its name, `can0`.
            interface: kind of bus that python-can knows, `socketcan`.
            bitrate: that is expected of it [bit/s].

        Raises:
            LinkError: the SDK is not installed, or the bus cannot be opened.
        """
        piper_sdk = load_sdk()

        class Interface(piper_sdk.C_PiperInterface_V2):  # type: ignore[name-defined]
            _instances: dict[str, Any] = {}  # noqa: RUF012  # of this connection alone

        self.damaged = 0
        self._heard: dict[int, float] = {}
        self._problem: str | None = None
        self._lock = threading.Lock()
        self.sdk = Interface(channel, judge_flag=False, can_auto_init=False)
        try:
            self.sdk.CreateCanBus(channel, interface, bitrate, judge_flag=False)
        except (ConnectionError, OSError, ValueError) as error:
            raise LinkError(_why_closed(channel, interface, error)) from error
        self._bus = self.sdk.GetCanBus()
        if self._bus.recv_bus is None:
            raise LinkError(_why_closed(channel, interface, None))
        if interface == "virtual":
            # It queues for every reader without end, and the SDK never reads the bus by which it sends.
            self._bus.send_bus.shutdown()
            self._bus.send_bus = self._bus.recv_bus
        self._parse, self._bus.callback_function = self._bus.callback_function, self._on_frame
        self._send, self._bus.SendCanMessage = self._bus.SendCanMessage, self._on_send
        self.sdk.ConnectPort(piper_init=False)

    def age(self, identifiers: Iterable[int], now: float) -> float:
        """Time since the longest silent of these frames was heard [s]; infinite before the first.

        Args:
            identifiers: of the frames.
            now: monotonic time [s].
        """
        with self._lock:
            return now - min(self._heard.get(each, -float("inf")) for each in identifiers)

    def silent(self, identifiers: Iterable[int], now: float, patience: float) -> list[int]:
        """Those of these frames that were not heard for longer than `patience` [s]; arguments as of `age`."""
        return [each for each in identifiers if not self.age((each,), now) <= patience]

    @property
    def problem(self) -> str | None:
        """Why nothing goes over the bus, as far as its controller has said so."""
        with self._lock:
            return self._problem

    def close(self) -> None:
        """Leave the bus. The SDK's thread ends by itself, within a second."""
        self.sdk.DisconnectPort()

    def _on_frame(self, message: Any) -> None:
        now = time.monotonic()
        if message.is_error_frame:
            self._on_error_frame(message.arbitration_id)
            return
        if message.is_remote_frame or len(message.data) != FRAME_BYTES:
            self.damaged += 1
            return
        self._parse(message)
        with self._lock:
            self._heard[message.arbitration_id] = now

    def _on_send(self, *arguments: Any, **named: Any) -> Any:
        """Send a frame as the SDK does, and raise what the SDK logs."""
        status = self._send(*arguments, **named)
        if status is not self._bus.CAN_STATUS.SEND_MESSAGE_SUCCESS:
            why = self.problem or "is the adapter unplugged, or the bus down?"
            raise LinkError(f"a frame cannot be sent ({status.name}): {why}")
        return status

    def _on_error_frame(self, kinds: int) -> None:
        with self._lock:
            if kinds & frames.ERROR_BUS_OFF:
                self._problem = (
                    "the CAN controller is bus-off: look at plugs, termination and bitrate, then restart the bus "
                    "(ip link set can0 down, up; restart-ms 100 does it by itself)"
                )
            elif kinds & frames.ERROR_NO_ACKNOWLEDGEMENT and self._problem is None:
                self._problem = "nobody acknowledges a frame: is the arm switched on and plugged in?"


def _why_closed(channel: str, interface: str, error: Exception | None) -> str:
    said = f" ({error})" if error is not None and str(error) else ""
    if interface == "socketcan":
        return (
            f"expected a CAN bus {channel} that is up, found none{said}: "
            f"sudo ip link set {channel} up type can bitrate 1000000 restart-ms 100"
        )
    return f"python-can cannot open {interface} {channel}{said}"
