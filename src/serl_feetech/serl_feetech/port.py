# SPDX-License-Identifier: Apache-2.0
"""The serial port that a bus of servos, or a gripper, hangs at."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
import time
from typing import Final, Protocol

from serl_feetech.errors import PortError

BAUD: Final = 1_000_000
_READ_AT_ONCE: Final = 4096  # [bytes]
_WRITE_TIMEOUT: Final = 0.5  # [s] without a byte taken
_PSEUDO_TERMINALS: Final = "/dev/pts/"
_ADVICE: Final = {
    errno.ENOENT: "is the adapter plugged in? ls /dev/serial/by-id shows what is",
    errno.EACCES: "who may read it is the group dialout: sudo usermod -aG dialout $USER, and log in again",
    errno.EBUSY: "another process uses it; end that one",
}


class Port(Protocol):
    """Bytes to the devices and back."""

    @property
    def name(self) -> str:
        """Where it is, for people."""

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            PortError: it is gone.
        """

    def read(self, timeout: float) -> bytes:
        """What has arrived; waits `timeout` [s] at most for the first byte, and returns none if none came.

        Raises:
            PortError: it is gone.
        """

    def close(self) -> None:
        """Let go of it. A second call does nothing."""


class SerialPort:
    """A serial port of Linux, or a pseudo-terminal, of 8 bits without parity and one stop bit; see `Port`."""

    def __init__(self, path: str, baud: int = BAUD) -> None:
        """Open it, for this object alone.

        Two who speak at once on a bus garble each other's packets. So who locks the port as well (flock), or opens it
        later without being root, is refused; who has it open already without a lock is not noticed.

        Args:
            path: of the device file.
            baud: speed [bit/s], one that Linux has a name for.

        Raises:
            PortError: there is none, it may not be read, another process uses it, or it is no serial port.
        """
        self._path, self._baud = path, baud
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(error) from error
        try:
            self._reserve()  # before its settings are touched: somebody may be using it
            self._set_up()
        except BlockingIOError as error:
            self.close()
            raise PortError(f"{path}: another process uses it, or this one twice; end that one") from error
        except (OSError, termios.error) as error:
            self.close()
            raise PortError(f"{path}: it is no serial port of {baud} baud: {error.args[-1]}") from error

    @property
    def name(self) -> str:
        """Path of the device file."""
        return self._path

    def _reserve(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        # A pseudo-terminal stays exclusive after its user has died, as its other end is open: nobody could reopen it.
        if os.isatty(self._file) and not os.ttyname(self._file).startswith(_PSEUDO_TERMINALS):
            fcntl.ioctl(self._file, termios.TIOCEXCL)

    def _set_up(self) -> None:
        attributes = termios.tcgetattr(self._file)
        attributes[0] = attributes[1] = attributes[3] = 0  # nothing is translated, echoed or waited for
        attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        attributes[4] = attributes[5] = getattr(termios, f"B{self._baud}")
        attributes[6][termios.VMIN] = attributes[6][termios.VTIME] = 0
        termios.tcsetattr(self._file, termios.TCSANOW, attributes)
        termios.tcflush(self._file, termios.TCIOFLUSH)

    def write(self, data: bytes) -> None:
        """Send bytes; see `Port`."""
        left, taken_at = memoryview(data), time.monotonic()
        try:
            while left:
                if not self._wait(select.POLLOUT, taken_at + _WRITE_TIMEOUT - time.monotonic()):
                    raise PortError(f"{self._path}: it has taken no bytes for {_WRITE_TIMEOUT:g} s; plug it in again")
                try:
                    left = left[os.write(self._file, left) :]
                except BlockingIOError:  # its buffer has become full in between
                    continue
                taken_at = time.monotonic()
        except OSError as error:
            raise self._error(error) from error

    def read(self, timeout: float) -> bytes:
        """What has arrived; see `Port`. Raises PortError where it is gone."""
        try:
            if not self._wait(select.POLLIN, timeout):
                return b""
            data = os.read(self._file, _READ_AT_ONCE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._error(error) from error
        if not data:  # readable, and nothing to read
            raise PortError(f"{self._path}: it has ended; was it unplugged?")
        return data

    def close(self) -> None:
        """Close it. A second call does nothing."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _wait(self, event: int, timeout: float) -> bool:
        """Whether it is ready for reading or writing within a time [s], or gone, which the next call says."""
        if self._file < 0:
            raise PortError(f"{self._path}: it is closed")
        poll = select.poll()  # select.select knows no descriptor above 1023
        poll.register(self._file, event)
        return bool(poll.poll(1e3 * max(timeout, 0.0)))

    def _error(self, error: OSError) -> PortError:
        reason = error.strerror or str(error)
        return PortError(f"{self._path}: {reason}; {_ADVICE.get(error.errno or 0, 'was it unplugged?')}")
