# SPDX-License-Identifier: Apache-2.0
"""What the console's server knows of the robot: whatever has these methods can be shown and led."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from serl_teleop.console.lead import Lead

DEEDS = {
    "success": "the episode has succeeded",
    "failure": "the episode has failed",
    "discard": "leave the episode, begin another one",
    "rewind": "leave the episode, forget its last seconds, keep what was before",
    "reset": "put the simulated world back",
    "pause": "leave the episode, and wait",
    "resume": "go on",
    "ready": "everything is in place for the next episode",
}
"""Buttons and what they mean."""


class Robot(Protocol):
    """A running graph. The methods are called in the server's thread and never wait, `jpeg` aside."""

    lead: Lead
    components: tuple[str, ...]
    """Names of the task's action, in order."""

    def about(self) -> Mapping[str, Any]:
        """What does not change, as JSON: `task`, `components`, `units`, `scale`, `frame`."""

    def state(self) -> dict[str, Any]:
        """What there is to see now, as JSON."""

    def curves(self) -> tuple[int, list[dict[str, object]]]:
        """Version and points of the curves; the version changes with them."""

    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that there are now."""

    def watch(self, cameras: Collection[str] | None) -> None:
        """Cameras that somebody looks at: nobody makes pictures for others. None: nobody looks at anything."""

    def picture_number(self, camera: str) -> int:
        """Number of the newest picture, 0 before the first; it grows."""

    def jpeg(self, camera: str) -> tuple[bytes, float]:
        """The newest picture as JPEG file, and its age [s]. Called in a thread of its own; takes milliseconds.

        Raises:
            ValueError: the message holds no picture.
        """

    def stop(self, who: str) -> None:
        """Latch the e-stop, and say it again until the arm says that it is."""

    def release(self, who: str) -> None:
        """Release the e-stop."""

    def why_not_lead(self) -> str:
        """Why nobody can lead now; empty: they can."""

    def do(self, deed: str, who: str) -> None:
        """Do one of DEEDS; what comes of it is among the notices."""

    def notices(self) -> list[str]:
        """Sentences for everybody since the last call."""
