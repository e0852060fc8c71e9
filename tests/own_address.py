# SPDX-License-Identifier: Apache-2.0
"""An address of this machine that no other test process uses."""

import os


def own_address() -> str:
    """One of 127.192.0.0/10, of this process: ports of emulators are fixed, and two test runs have to differ."""
    pid = os.getpid()
    return f"127.{pid >> 16 & 0x3F | 0xC0}.{pid >> 8 & 0xFF}.{pid & 0xFF or 1}"
