# SPDX-License-Identifier: Apache-2.0
"""MuJoCo's own window."""

import os
import time
import warnings

from serl_sim.world import World

_PERIOD_NS = 16_000_000


class ViewerError(OSError):
    """A window cannot be opened here."""


class Viewer:
    """Shows a world in MuJoCo's interactive viewer; refreshed by whoever steps the world."""

    def __init__(self, world: World) -> None:
        """Open the window.

        Raises:
            ViewerError: there is no display.
        """
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ViewerError("MuJoCo's viewer needs a display, and DISPLAY is not set; use headless:=true")
        import glfw
        import mujoco.viewer

        # MuJoCo's window ends the process when it cannot reach the display, so try before.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", glfw.GLFWError)
            if not glfw.init():
                raise ViewerError(f"the display {os.environ.get('DISPLAY', '')!r} cannot be opened; use headless:=true")
        self._handle = mujoco.viewer.launch_passive(world.model, world.data, show_left_ui=False, show_right_ui=False)
        self._next_ns = 0

    def refresh(self) -> None:
        """Show the newest state, at most 60 times a second. Does nothing once the window was closed."""
        now = time.monotonic_ns()
        if now >= self._next_ns and self._handle.is_running():
            self._next_ns = now + _PERIOD_NS
            self._handle.sync()

    def close(self) -> None:
        """Close the window."""
        self._handle.close()
