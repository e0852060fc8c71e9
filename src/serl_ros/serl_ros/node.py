# SPDX-License-Identifier: Apache-2.0
"""How every node process starts and stops."""

import gc
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from serl_ros.execution.executor import FastExecutor
from serl_ros.log import LibrariesLog

_STUCK = 1.2  # [s]

CONFIGURATION_ERROR = 2
"""Exit status of a node that was given something it cannot use."""


@runtime_checkable
class Runnable(Protocol):
    """A node with a loop of its own, instead of only reacting to messages."""

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Work until done or until `stop` is set; spin `executor` meanwhile."""


@runtime_checkable
class Closeable(Protocol):
    """A node with something to put away before it ends."""

    def close(self) -> None:
        """Put it away; the context is still valid."""


def run_node(factory: Callable[[], Node], args: Sequence[str] | None = None) -> None:
    """Run one node until SIGINT or SIGTERM, then leave without a traceback; while it is being made, at once.

    Where the main thread is inside a library for longer than 1.2 s then, as while it compiles, the process just ends:
    nothing may depend on `close()` that a kill would spoil. What libraries say by Python's logging, its log has.

    The node's own ``run(executor, stop)`` is used where it has one, and its ``close()`` is called before the end. What
    the factory raises as :class:`ValueError` or :class:`OSError` is a bad parameter or file: it is printed as one line
    (with ``SERL_DEBUG=1`` as a traceback) and the process exits with status 2.

    Args:
        factory: makes the node once ROS is initialized.
        args: command line, ``sys.argv`` by default.
    """
    # rclpy's own handlers would end the context before a node has put its things away.
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    _never_wait_for_readers()
    stop = threading.Event()
    ready = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        if not ready:
            os._exit(0)  # half a node has nothing to put away, and to take libraries apart that compile would fail

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    _end_if_stuck(stop)
    said = LibrariesLog(Path(sys.argv[0]).name)
    said.install()
    try:
        try:
            executor = FastExecutor()
            node = factory()
        except (ValueError, OSError) as error:
            if os.environ.get("SERL_DEBUG") == "1":
                raise
            print(f"fatal: {error}", file=sys.stderr, flush=True)
            raise SystemExit(CONFIGURATION_ERROR) from None
        ready = True
        said.logger = node.get_logger()
        executor.add_node(node)
        # What was imported stays; what a message leaves behind is freed by counting, cycles are rare.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        try:
            if isinstance(node, Runnable):
                node.run(executor, stop)
            else:
                while not stop.is_set():
                    executor.spin_once(0.1)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            if isinstance(node, Closeable):
                node.close()
            executor.shutdown(timeout_sec=1.0)
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def _end_if_stuck(noticed: threading.Event) -> None:
    """End the process when a signal has come and the main thread does not notice.

    Python's handlers run between its own instructions only, while the kernel tells a pipe at once.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(receiver, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
            pass  # a node's own signal
        if not noticed.wait(_STUCK):
            os._exit(0)

    threading.Thread(target=watch, name="signals", daemon=True).start()


def _never_wait_for_readers() -> None:
    """Lose log lines rather than wait: who reads our pipe may be stopped or busy, and an e-stop must be answered."""
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISFIFO(os.fstat(stream).st_mode):
                os.set_blocking(stream, False)
