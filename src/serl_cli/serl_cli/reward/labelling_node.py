# SPDX-License-Identifier: Apache-2.0
"""``serl reward label``: a person judges episodes from a terminal."""

from rich.console import Console
from rich.status import Status
from serl_config.text import printable
from serl_launch.clients.client_node import Client
from serl_launch.errors import Interrupted
from serl_ros.qos import LATCHED
from std_srvs.srv import Trigger

from serl_cli.reward.keys import pressed_keys
from serl_interfaces.msg import EpisodeStatus
from serl_launch import domain

_SERVICES = {"s": "reward/success", "f": "reward/failure", "r": "episode/ready"}
_MODES = {
    EpisodeStatus.MODE_DEMONSTRATION: "a demonstration",
    EpisodeStatus.MODE_TRAINING: "training",
    EpisodeStatus.MODE_EVALUATION: "evaluation",
}


def label(graph: str, namespace: str) -> None:
    """Listens to keys and tells the node `reward_human` what they mean, until q or Ctrl-C.

    Args:
        graph: name of the running graph, empty for the only one.
        namespace: of the arm.

    Raises:
        CommandError: there is no graph or no terminal, or nobody asks for a person's word.
        Interrupted: a person pressed Ctrl-C.
    """
    domain.join(graph)
    console = Console()
    with pressed_keys() as read, Client(namespace) as client, console.status("waiting for an episode") as status:
        running: list[EpisodeStatus] = []
        client.node.create_subscription(
            EpisodeStatus, "episode", lambda message: _begin(message, running, status), LATCHED
        )
        console.print(
            "keys: s success, f failure, r ready for the next episode, q end", highlight=False, soft_wrap=True
        )
        over = False

        def tick() -> None:
            nonlocal over
            for key in read():
                if key in _SERVICES:
                    _say(client, console, _SERVICES[key], running)
                over = over or key == "q"

        try:
            client.spin_until(lambda: over, float("inf"), tick)
        except KeyboardInterrupt:
            raise Interrupted("no longer listening; the graph goes on") from None


def _begin(message: EpisodeStatus, running: list[EpisodeStatus], status: Status) -> None:
    running[:] = [message]
    if message.mode == EpisodeStatus.MODE_IDLE:
        status.update("no episode is running")
    else:
        status.update(f"episode {message.episode}, {_MODES.get(message.mode, 'unknown')}")


def _say(client: Client, console: Console, service: str, running: list[EpisodeStatus]) -> None:
    response = client.call(Trigger, service, Trigger.Request())
    episode = f"episode {running[0].episode}: " if running else ""
    text = service.partition("/")[2] if response.success else printable(response.message)
    console.print(f"{episode}{text}", highlight=False, markup=False, soft_wrap=True)
