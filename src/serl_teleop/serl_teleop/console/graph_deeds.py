# SPDX-License-Identifier: Apache-2.0
"""The console's buttons: each is a service of whichever node of the graph offers it."""

import random
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import EpisodeStatus
from serl_interfaces.srv import ResetWorld

_SERVICES: dict[str, tuple[Any, str]] = {
    "success": (Trigger, "reward/success"),
    "failure": (Trigger, "reward/failure"),
    "discard": (Trigger, "episode/discard"),
    "rewind": (Trigger, "episode/rewind"),
    "pause": (SetBool, "episode/pause"),
    "resume": (SetBool, "episode/pause"),
    "ready": (Trigger, "episode/ready"),
    "reset": (ResetWorld, "sim/reset"),
}


class GraphDeeds:
    """Calls services without waiting for them; what they answer becomes a notice."""

    def __init__(self, node: Node, notice: Callable[[str], object]) -> None:
        """Connect to whoever offers them, now or later."""
        self._notice = notice
        clients = {name: node.create_client(kind, name) for kind, name in _SERVICES.values()}
        self._clients = {deed: clients[name] for deed, (_, name) in _SERVICES.items()}
        self.episode: EpisodeStatus | None = None
        self.paused = False
        """Whether the actor says that a person has paused it."""

    def possible(self) -> list[str]:
        """The deeds for which somebody offers a service, and of pausing and going on the one that changes something."""
        needless = "pause" if self.paused else "resume"
        return [deed for deed, client in self._clients.items() if deed != needless and client.service_is_ready()]

    def do(self, deed: str, who: str) -> None:
        """Do it."""
        client = self._clients[deed]
        if not client.service_is_ready():
            self._notice(f"{who}: {deed}: nobody offers the service {client.service_name}")
            return
        if deed == "reset" and self._episode_runs:
            self._notice(f"{who}: reset: an episode is running, which only the actor may reset: discard it")
            return

        def answered(future: Any) -> None:
            answer = future.result()
            what = answer.message or ("done" if answer.success else "refused, without a reason")
            self._notice(f"{who}: {deed}: {what}")

        client.call_async(self._request(deed)).add_done_callback(answered)

    @property
    def _episode_runs(self) -> bool:
        return self.episode is not None and self.episode.mode != EpisodeStatus.MODE_IDLE

    def _request(self, deed: str) -> Any:
        kind, _ = _SERVICES[deed]
        if kind is SetBool:
            return SetBool.Request(data=deed == "pause")
        if kind is ResetWorld:
            return ResetWorld.Request(
                seed=random.getrandbits(31), episode=0 if self.episode is None else self.episode.episode
            )
        return Trigger.Request()
