# SPDX-License-Identifier: Apache-2.0
"""``python -m serl_cli``, which ``./serl`` runs."""

import logging
import os
import sys
import threading


def _leave(status: int) -> None:
    """End the process without taking libraries apart, in which DDS was seen to hang when all was done and printed."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass  # who read it has left
        except OSError as error:
            os.write(2, f"serl: error: what was printed could not be written: {error.strerror}\n".encode())
            status = status or 1
    os._exit(status)


if __name__ == "__main__":
    try:
        from serl_cli.app import main

        result = main()
    except KeyboardInterrupt:  # while Python was still importing
        print("serl: interrupted", file=sys.stderr)
        result = 130
    _leave(result)
