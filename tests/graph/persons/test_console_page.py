# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser, of a real arm controller in a simulated world: clicks, touches, two tablets."""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from serl_bench.chromium import PROGRAM, chromium
from serl_ros.qos import LATCHED, RELIABLE_1

from serl_interfaces.msg import ActionCommand, ArmState, SafetyStatus

pytestmark = [
    pytest.mark.graph,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium"),
]

SHOWS_PICTURES = "cameras.length === 2 && cameras.every(each => performance.now() - each.at < 1000)"


class Graph:
    """What the arm is told and what it says."""

    def __init__(self, ros: Any) -> None:
        self._ros, node = ros, ros.node()
        self.told: list[tuple[float, bool, list[float]]] = []
        self.arm: ArmState = ArmState()
        self.safety: SafetyStatus = SafetyStatus()
        self._kept = [
            node.create_subscription(ActionCommand, "teleop/action", self._on_told, RELIABLE_1),
            node.create_subscription(ArmState, "arm/state", lambda message: setattr(self, "arm", message), RELIABLE_1),
            node.create_subscription(SafetyStatus, "arm/safety", lambda m: setattr(self, "safety", m), LATCHED),
        ]

    def _on_told(self, message: ActionCommand) -> None:
        self.told.append((time.monotonic(), message.active, list(message.action)))

    async def until(self, condition: Callable[[], object], what: str, said: Callable[[], str] = str) -> None:
        """Handle messages until something is so; `said` tells what a process has said meanwhile."""
        deadline = time.monotonic() + 60.0  # a busy machine starts a graph and a browser slowly
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain until {what}: {said()}"
            self._ros.executor.spin_once(timeout_sec=0.001)
            await asyncio.sleep(0)

    @property
    def leads(self) -> bool:
        """Whether the newest command says that a person leads."""
        return bool(self.told) and self.told[-1][1]

    @property
    def moves(self) -> bool:
        """Whether it says that they want the tool to move."""
        return self.leads and any(self.told[-1][2][:3])

    @property
    def x(self) -> float:
        """Where the arm is commanded to [m]."""
        return float(self.arm.target_pose.position.x)


def use(ros: Any, processes: Any, folder: Any, test: Callable[[SimpleNamespace], Any]) -> None:
    """Start graph, console and browser, and run a coroutine function with them."""
    serl = (sys.executable, "-m", "serl_cli")
    graph = processes.start(
        *(*serl, "launch", "sim.launch.xml", "task:=pick_cube_vision", "real_time_factor:=1.0"),
        *("learning_nodes:=false", "teleop:=none", "reward:=human"),
    )
    seen = Graph(ros)

    async def main() -> None:
        await seen.until(lambda: seen.arm.joint_names, "the arm is there", graph.output)
        console = processes.start(*serl, "console", "--port", "0")
        await seen.until(
            lambda: "Ctrl-C" in console.output() or console.poll() is not None, "the console is there", console.output
        )
        found = re.search(r"Console: +(\S+)", console.output())
        assert found is not None, console.output()
        async with chromium(folder / "profile") as browser:
            await test(SimpleNamespace(graph=seen, browser=browser, address=found[1], console=console))

    asyncio.run(main())


def test_two_tablets_watch_lead_judge_and_stop(ros: Any, processes: Any, tmp_path: Any) -> None:
    async def test(here: SimpleNamespace) -> None:
        graph, address = here.graph, here.address
        async with here.browser.page(address) as one, here.browser.page(address, size=(800, 1200), dark=True) as two:
            for page in (one, two):
                await page.until(SHOWS_PICTURES)
                assert {request.split("/")[2] for request in page.requests if request.startswith("http")} == {
                    address.split("/")[2]
                }

            # A finger on the upper half of the pad moves the tool forward, as long as it is there.
            x, y = await one.middle(".pad")
            before = graph.x
            await one.touch("touchStart", (x, y - 80))
            await graph.until(lambda: graph.leads and graph.x > before + 0.01, "the tool goes forward")
            assert all(action[0] > 0.0 for _, active, action in graph.told if active)
            await two.until("document.querySelector('#leads').textContent === 'browser 1 leads'")

            # The other one cannot, and sees why; nor when the first one lets go, before it presses again.
            x2, y2 = await two.middle(".rail")
            await two.touch("touchStart", (x2, y2 - 60))
            await two.until("document.querySelector('#why').textContent === 'browser 1 leads'")
            await one.touch("touchEnd")
            await graph.until(lambda: not graph.leads, "the arm hears that the person let go")
            await one.until("state.holder === ''")
            assert not graph.leads
            await two.touch("touchEnd")
            count = len(graph.told)
            await two.touch("touchStart", (x2, y2 - 60))
            await graph.until(lambda: graph.leads, "the other one leads")
            assert all(action[2] > 0.0 for _, active, action in graph.told[count:] if active)
            await two.touch("touchEnd")
            await graph.until(lambda: not graph.leads, "nobody leads")

            # A button.
            await one.until("!document.querySelector('[data-deed=success]').disabled")
            await one.click("[data-deed=success]")
            await two.until("document.querySelector('#notices').textContent.includes('success: no episode is running')")

            # A tap stops, both see it, and nobody leads until it is released by a long press.
            await two.touch("touchStart", await two.middle("#stop"))
            await graph.until(lambda: graph.safety.estop, "the arm is stopped")
            await two.touch("touchEnd")
            for page in (one, two):
                await page.until("document.querySelector('#stopped').textContent.startsWith('Stopped by browser 2')")
            x, y = await one.middle(".pad")
            await one.mouse("mousePressed", x, y - 60)
            await one.until("document.querySelector('#why').textContent.includes('release it first')")
            await one.mouse("mouseReleased", x, y - 60)
            await one.click("#release")  # too short
            place = await one.middle("#release")
            assert graph.safety.estop
            await one.mouse("mousePressed", *place)
            await graph.until(lambda: not graph.safety.estop, "the arm is released")
            await one.mouse("mouseReleased", *place)
            await one.until("!document.querySelector('#stopped').classList.contains('shown')")
            assert (one.errors, two.errors) == ([], [])

    use(ros, processes, tmp_path, test)


SILENCED = {
    "is closed": ("location.href = 'about:blank'", None),
    "sleeps": ("(() => { for (const begin = Date.now(); Date.now() < begin + 5000;); })()", True),
    "loses its connection": ("socket.send = () => {}", True),
    "loses the focus": ("dispatchEvent(new Event('blur'))", False),
}
"""What becomes of a tablet, what does so, and whether the arm is still the person's then, because they have not let go;
a page that is closed may come to say so, or not."""


def test_a_tablet_that_is_gone_while_it_leads_stops_leading(ros: Any, processes: Any, tmp_path: Any) -> None:
    async def test(here: SimpleNamespace) -> None:
        graph = here.graph
        for what, (script, is_lost) in SILENCED.items():
            async with here.browser.page(here.address) as page:
                await page.until(SHOWS_PICTURES)
                x, y = await page.middle(".pad")
                await page.touch("touchStart", (x, y - 80))
                await graph.until(lambda: graph.moves, "the person leads")
                gone = asyncio.ensure_future(page.ask(script))
                await graph.until(lambda: not graph.moves, f"the arm hears that nobody moves it: the tablet {what}")
                assert what != "sleeps" or not gone.done(), "it was heard while the tablet slept"
                count = len(graph.told)
                await graph.until(lambda count=count: len(graph.told) > count, "it is said again")
                assert is_lost is None or {active for _, active, _ in graph.told[count:]} == {is_lost}, what
                assert not any(any(action[:3]) for _, _, action in graph.told[count:])
                await gone

    use(ros, processes, tmp_path, test)
