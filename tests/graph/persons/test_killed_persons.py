# SPDX-License-Identifier: Apache-2.0
"""The nodes by which a person leads are killed while they do, in a graph whose policy would go on."""

import asyncio
import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Joy
from serl_ros.qos import LATCHED, LOOP_10, RELIABLE_10
from std_srvs.srv import Trigger

from serl_interfaces.msg import ExecutedAction, SafetyStatus

pytestmark = pytest.mark.graph

PATIENCE = 60.0  # [s]; a busy machine starts nodes slowly
HELD = 15  # steps of the policy for which the arm is watched: 1.5 s of ten steps a second


class Graph:
    """A graph in real time with a person's node and a page, a policy that leads forward, and who listens."""

    def __init__(self, ros: Any, processes: Any) -> None:
        arguments = ("task:=pick_cube", "learning_nodes:=false", "reward:=none", "real_time_factor:=1.0")
        person = ("teleop:=joy", "console:=true", "console_port:=0")
        self.launch = processes.start(sys.executable, "-m", "serl_cli", "launch", "sim.launch.xml", *arguments, *person)
        self.policy = processes.start(sys.executable, "-m", "serl_bench.safety.arm_peers_node", "policy")
        self._ros, self.node = ros, ros.node()
        self.executed: deque[ExecutedAction] = deque(maxlen=HELD)
        self.steps = 0
        self.safety = SafetyStatus()
        self.device = ""
        self.joy = Joy(axes=[0.0] * 6, buttons=[0])
        joys = self.node.create_publisher(Joy, "joy", RELIABLE_10)
        self._kept = [
            self.node.create_subscription(ExecutedAction, "arm/executed", self._on_executed, LOOP_10),
            self.node.create_subscription(SafetyStatus, "arm/safety", self._on_safety, LATCHED),
            self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE_10),
            self.node.create_timer(0.02, lambda: joys.publish(self.joy)),
        ]
        self.release = self.node.create_client(Trigger, "teleop/release")

    def _on_executed(self, message: ExecutedAction) -> None:
        self.executed.append(message)
        self.steps += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.device = next((each.message for each in message.status if each.name == "teleop: joy"), self.device)

    def _on_safety(self, message: SafetyStatus) -> None:
        self.safety = message

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Handle messages until something is so."""
        self._ros.spin_until(
            condition, PATIENCE, lambda: f"{what}: {self.safety.reason}\n{self.launch.output()[-3000:]}"
        )

    def spin(self) -> None:
        """Handle a message, if there is one."""
        self._ros.executor.spin_once(timeout_sec=0.001)

    def starts(self, executable: str) -> list[int]:
        """Process ids under which it was started, oldest first."""
        found = re.findall(rf"\[{executable}-\d+\]: process started with pid \[(\d+)\]", self.launch.output())
        return [int(pid) for pid in found]

    def leads(self, source: int) -> bool:
        return bool(self.executed) and self.executed[-1].source == source

    def policy_leads(self) -> None:
        self.wait(lambda: self.leads(ExecutedAction.SOURCE_POLICY), "the policy leads")

    def kill(self, executable: str) -> None:
        """Kill -9; the launch starts it anew."""
        before = self.starts(executable)
        os.kill(before[-1], signal.SIGKILL)
        self.wait(lambda: len(self.starts(executable)) > len(before), f"{executable} is started again")

    def is_held(self) -> None:
        """The arm stands, the policy does not go on, nobody leads, and it is said why."""
        self.wait(lambda: "fallen silent" in self.safety.reason, "it is said that the arm is held")
        assert self.safety.leader == ""
        since = self.steps
        self.wait(lambda: self.steps >= since + HELD, "the policy asks for steps")
        assert {each.source for each in self.executed} == {ExecutedAction.SOURCE_HUMAN}
        assert not any(any(each.action[:3]) for each in list(self.executed)[HELD // 2 :]), "the arm stands"
        assert self.safety.leader == ""


@pytest.mark.timeout(300)
def test_who_is_killed_while_they_lead_leaves_the_arm_held_until_somebody_agrees(ros: Any, processes: Any) -> None:
    graph = Graph(ros, processes)
    graph.policy_leads()
    graph.wait(lambda: graph.device == "is at rest", "the device is there")

    def pushed() -> bool:
        """Deflect, never quite the same, until the person leads."""
        graph.joy.axes[1] = 0.8 if graph.joy.axes[1] != 0.8 else 0.79
        return graph.leads(ExecutedAction.SOURCE_HUMAN) and graph.safety.leader.startswith("/teleop ")

    # A device's node: it comes back, its device is still deflected, and nobody leads by it.
    graph.wait(pushed, "the person leads by the device")
    graph.kill("teleop")
    graph.is_held()
    graph.wait(lambda: graph.device == "has to be let go first", "the device is back")
    graph.is_held()
    graph.joy.axes[1] = 0.0
    graph.wait(lambda: graph.device == "is at rest", "the device is let go")
    graph.is_held()
    answer = graph.release.call_async(Trigger.Request())
    graph.wait(answer.done, "an answer")
    assert answer.result().success, answer.result().message
    graph.policy_leads()

    # A page's node: whoever takes the arm and lets go agrees.
    graph.wait(lambda: "open http://" in graph.launch.output(), "the page")
    asyncio.run(_jog_until_killed(graph))
    graph.is_held()
    graph.wait(pushed, "the person leads by the device")
    graph.joy.axes[1] = 0.0
    graph.policy_leads()
    assert graph.launch.poll() is None


async def _jog_until_killed(graph: Graph) -> None:
    """Lead by a page as a browser does, until its node is killed."""
    address = re.findall(r"open (http://\S+)", graph.launch.output())[-1]
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}live") as socket:

        async def hold() -> None:
            presses = 1
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                data = json.loads(message.data)
                presses += data["type"] == "refused"  # as on a busy machine, which shows the page too little
                if data["type"] == "state":
                    await socket.send_str(json.dumps({"type": "seen", "number": data["number"]}))
                    hold = {"type": "hold", "hold": presses, "state": data["number"], "action": {"dy": 0.5}}
                    await socket.send_str(json.dumps(hold))

        holding = asyncio.create_task(hold())
        await _until(graph, lambda: graph.safety.leader.startswith("/console "), holding)
        before = graph.starts("console")
        os.kill(before[-1], signal.SIGKILL)
        await _until(graph, lambda: len(graph.starts("console")) > len(before), None)
        await asyncio.gather(holding, return_exceptions=True)


async def _until(graph: Graph, condition: Callable[[], object], working: "asyncio.Task[None] | None") -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, graph.launch.output()[-3000:]
        assert working is None or not working.done(), working
        graph.spin()
        await asyncio.sleep(0)
