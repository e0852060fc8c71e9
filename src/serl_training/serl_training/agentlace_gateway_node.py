# SPDX-License-Identifier: Apache-2.0
"""Node `agentlace_gateway`: scripts of SERL and HIL-SERL send to our learner, and hear its policy."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.incoming import refuse
from serl_ros.log import INFO, log
from serl_ros.log import WARN as WARNING
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, RELIABLE_50

from serl_agentlace import AgentlaceError, TrainerConfig, TrainerServer
from serl_interfaces.msg import Metrics, PolicyParameters
from serl_interfaces.srv import InsertTransitions
from serl_tasks import get_task, task_names
from serl_training.actor.perception import make_perception
from serl_training.agentlace.conversion import ScriptTransitions, script_parameters
from serl_training.agentlace.graph_uploads import GraphUploads
from serl_training.graph_jax import declare_compile_cache, prepare_backend
from serl_training.link.contract import LEARNING, SIMULATED, load_learning
from serl_training.link.graph_id import GRAPH_ID, belong_together, mismatch

_REPORT_PERIOD = 1.0  # [s]
_MOST_METRICS = 200
_MOST_DEEP = 8


class AgentlaceGatewayNode(Node):
    """Serves agentlace's clients, calls `learner/insert`, hears `learner/policy`, publishes `metrics`."""

    def __init__(self) -> None:
        """Declare parameters, load what the pictures need, bind the ports."""
        super().__init__("agentlace_gateway")
        task = get_task(declare(self, "task", "pick_cube", "Task that is learned.", choices=task_names()))
        config = load_learning(declare(self, "learning", "", LEARNING), task)
        simulated = declare(self, "simulated", False, SIMULATED)
        seed = declare(self, "seed", 0, "Seed of the random shifts of pictures.", range=(0, 2**31))
        run_dir = declare(self, "run_dir", "", "Directory of the run, in which is kept what each client has sent.")
        host = declare(
            self,
            "host",
            "127.0.0.1",
            "Address to listen at; beyond loopback everybody who reaches it is let in.",
        )
        port = declare(self, "port", 5488, "TCP port of requests.", range=(1, 65535))
        broadcast = declare(self, "broadcast_port", 5489, "TCP port of parameters.", range=(1, 65535))
        requests = declare(self, "request_types", ["send-stats"], "Kinds of requests whose numbers become metrics.")
        stores = declare(self, "stores", ["actor_env"], "Names of the data stores whose items are own experience.")
        shown = declare(
            self, "demonstration_stores", ["actor_env_intvn"], "Names of those whose items are demonstrations."
        )
        self._graph_id = declare(self, "graph_id", "", GRAPH_ID)
        cache = declare_compile_cache(self)
        if not run_dir:
            raise ValueError("parameter 'run_dir' of node 'agentlace_gateway': expected a directory, found nothing")
        if config.improves:
            raise ValueError("parameter 'learning': expected sac.improve: none, scripts of SERL improve no policy")
        if task.cameras:
            prepare_backend(self, cache, config.backend)
        perception = make_perception(task, config, seed, simulated=simulated)
        if perception.history != 1 or perception.spec.frame_stack != 1:
            raise ValueError("parameter 'learning': expected acting.history and vision.frame_stack of 1, found more")
        self._client = self.create_client(InsertTransitions, "learner/insert")
        demonstrations = frozenset(shown)

        def make(store: str, actor_id: str, next_episode: Callable[[], int]) -> ScriptTransitions:
            return ScriptTransitions(
                perception.spec,
                perception.pictures,
                perception.encoder,
                actor_id=actor_id,
                next_episode=next_episode,
                demonstration=store in demonstrations,
            )

        try:
            self._uploads = GraphUploads(
                self,
                self._client,
                Path(run_dir) / "agentlace.json",
                spec=perception.spec,
                make=make,
                graph_id=self._graph_id,
            )
            settings = TrainerConfig(port, broadcast, request_types=list(requests))
            self._server = TrainerServer(settings, request_callback=self._on_stats, host=host)
        except AgentlaceError as error:
            raise ValueError(str(error)) from error
        for name in [*stores, *shown]:
            self._server.register_sink(name, _Sink(name, self._uploads), self._uploads.uploads(name))
        self._published = ""
        self._stats: list[Metrics] = []
        self._lock = threading.Lock()
        self._diagnostics = Diagnostics(self)
        self._metrics = self.create_publisher(Metrics, "metrics", RELIABLE_50)
        self._policies = self.create_subscription(PolicyParameters, "learner/policy", self._on_policy, LATCHED)
        exposed = "this machine alone" if host in ("127.0.0.1", "localhost") else "EVERYBODY who reaches it"
        log(self, INFO, f"listens at {host}, ports {port} and {broadcast}, for {exposed}; there are no keys")

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Serve until `stop`."""
        self._server.start(threaded=True)
        reported = 0.0
        while not stop.is_set():
            executor.spin_once(0.02)
            self._uploads.pump()
            self._publish_stats()
            if time.monotonic() - reported >= _REPORT_PERIOD:
                reported = time.monotonic()
                self._diagnose()

    def close(self) -> None:
        """Let nobody wait."""
        self._uploads.close()
        self._server.stop()

    def _diagnose(self) -> None:
        values = {
            "clients": str(self._uploads.clients),
            "stored": str(self._uploads.acknowledged),
            "waiting": str(self._uploads.backlog),
            "refused": str(self._uploads.refused),
        }
        if not self._client.service_is_ready():
            self._diagnostics.set("uploads", WARN, "no learner", **values)
        elif self._uploads.refused:
            self._diagnostics.set("uploads", ERROR, "transitions were refused", **values)
        else:
            self._diagnostics.set("uploads", OK, "serving", **values)

    def _on_policy(self, message: PolicyParameters) -> None:
        if not belong_together(message.graph_id, self._graph_id):
            refuse(self, "learner/policy", f"it is of {mismatch(message.graph_id, self._graph_id)}")
            return
        try:
            snapshot = PolicySnapshot.from_bytes(message.data.tobytes())
        except DataError as error:
            refuse(self, "learner/policy", f"version {message.version}: {error}")
            return
        parameters, different = script_parameters(snapshot)
        self._say_layout(different)
        self._server.publish_network(parameters)

    def _say_layout(self, different: str) -> None:
        text = "parameters are published as modules_actor of SERL's agent"
        if different:
            text = (
                "parameters are published by our own names, which SERL's actor scripts cannot act by: "
                f"SERL's agent has no such network ({different})"
            )
        if text != self._published:
            self._published = text
            log(self, WARNING if different else INFO, text)

    def _on_stats(self, kind: str, payload: Any) -> Mapping[str, Any]:
        """Keep the numbers of a request; from the server's thread."""
        numbers = flat_numbers(payload)
        message = Metrics(node=f"agentlace_{kind}"[:100], names=list(numbers), values=list(numbers.values()))
        with self._lock:
            self._stats = [*self._stats, message][-50:]
        return {}

    def _publish_stats(self) -> None:
        with self._lock:
            waiting, self._stats = self._stats, []
        for message in waiting:
            message.header.stamp = self.get_clock().now().to_msg()
            message.env_steps = self._uploads.acknowledged
            self._metrics.publish(message)


class _Sink:
    """Hands the items of one store over to the thread of the node."""

    def __init__(self, name: str, uploads: GraphUploads) -> None:
        self._name, self._uploads = name, uploads

    def take(self, client: int, items: Sequence[Any], last_id: int) -> str:
        """Hand over items; raises AgentlaceError where nobody takes them."""
        return self._uploads.put(self._name, client, items, last_id)


def flat_numbers(payload: Any, prefix: str = "", depth: int = _MOST_DEEP) -> dict[str, float]:
    """The finite numbers in dictionaries of dictionaries, by names with slashes; anything else is left out."""
    found: dict[str, float] = {}
    if isinstance(payload, Mapping) and depth:
        for name, value in list(payload.items())[:_MOST_METRICS]:
            found |= flat_numbers(value, f"{prefix}/{name}" if prefix else str(name)[:100], depth - 1)
    elif prefix and isinstance(payload, int | float | np.generic) and np.isfinite(number := _as_float(payload)):
        found[prefix] = number
    return dict(list(found.items())[:_MOST_METRICS])


def _as_float(value: int | float | np.generic) -> float:
    """NaN for an integer that is larger than any."""
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def main() -> None:
    """Entry point."""
    run_node(AgentlaceGatewayNode)
