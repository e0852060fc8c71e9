# SPDX-License-Identifier: Apache-2.0
"""Processes that a benchmark starts beside itself."""

import signal
import subprocess
from collections.abc import Sequence

STOP_TIMEOUT = 15.0  # [s]


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process without output, in a session of its own: Ctrl-C reaches only us, and we end it."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it as Ctrl-C does, by force if that takes too long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
