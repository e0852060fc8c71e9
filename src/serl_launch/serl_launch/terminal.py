# SPDX-License-Identifier: Apache-2.0
"""What is written to a terminal that was closed is lost, and ends nothing."""

import errno
import io
import os
import sys
from typing import TextIO


class _Terminal(io.FileIO):
    """A terminal for writing; /dev/null takes its place once it is gone."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ENXIO):
                raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return super().write(data)  # type: ignore[arg-type]


def outlive_terminal() -> None:
    """Keeps standard output and standard error usable when their terminal is closed (``nohup``, ``disown``).

    A pipe is left alone: when its reader leaves, the writer is to end.
    """
    sys.stdout, sys.stderr = _outliving(sys.stdout), _outliving(sys.stderr)


def _outliving(stream: TextIO) -> TextIO:
    if stream is None or not stream.isatty():
        return stream
    stream.flush()
    file = io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=True)
