# SPDX-License-Identifier: Apache-2.0
"""Where every executable begins. A Python that lacks what the workspace needs is told in one line, not by a traceback.

The entry point ``arm_controller = serl_ros.console:serl_robots.arm_controller_node`` starts the ``main()`` of the
module ``serl_robots.arm_controller_node``. This module itself imports nothing beyond Python.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path


class Package:
    """A package whose modules' ``main()`` are its attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, module: str) -> Callable[[], object]:
        return partial(start, f"{self._name}.{module}")


def __getattr__(name: str) -> Package:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Package(name)


def start(module: str) -> object:
    """Import a module and return what its ``main()`` returns; SIGINT or SIGTERM meanwhile ends the process at once.

    Raises:
        SystemExit: something cannot be imported, and this is not the Python that ./serl set up for the workspace.
    """
    _end_at_once_on_signals()
    # Matrices of a control step are small: OpenBLAS would hand them to threads that spin while they wait for the next.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return importlib.import_module(module).main()
    except ImportError as error:
        workspace = next((folder for folder in Path(__file__).resolve().parents if (folder / "serl").is_file()), None)
        if workspace is None or Path(sys.prefix).parent == workspace:
            raise
        sys.exit(
            f"serl: {Path(sys.argv[0]).name} is run by {sys.executable}, which is not the workspace's Python: {error}. "
            f'Use {workspace}/serl launch, or first, in this terminal: eval "$({workspace}/serl env)"'
        )


def _end_at_once_on_signals() -> None:
    """Until ``main()`` handles signals, they end the process: Python would show where its imports were interrupted."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))
