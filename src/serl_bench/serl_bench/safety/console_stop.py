# SPDX-License-Identifier: Apache-2.0
"""How soon an arm stands after a finger has come down on STOP in a browser."""

import asyncio
import math
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement
from serl_bench.chromium import PATIENCE, Page, chromium
from serl_bench.peer_processes import stop
from serl_bench.safety.stopping import AFTERWARDS, START_TIMEOUT, Arm, an_arm
from serl_interfaces.msg import SafetyStatus

TAPS = 50
_CAMERAS = 2
_SHOWS = f"cameras.length === {_CAMERAS} && cameras.every(each => performance.now() - each.at < 500)"
_ADDRESS = re.compile(r"Console: +(\S+)")


def console_estop_ms(bench: Bench) -> Measurement:
    """Milliseconds from a finger on STOP until the arm is commanded to hold, 99th percentile."""
    rng = random.Random(0)
    times = []
    with an_arm("bench console") as arm:
        arm.start("cameras")
        arm.start("policy")
        with _console(bench.scratch, arm) as address, _browsers(bench.scratch / "profile", address) as browsers:
            tablet, run = browsers
            place = run(tablet.middle("#stop")).result(PATIENCE)
            bench.say(f"{TAPS} taps")
            for _ in range(TAPS):
                arm.wait(lambda: arm.safety[-1].mode == SafetyStatus.MODE_POLICY and arm.commands.moves, "policy leads")
                arm.watch(rng.uniform(0.05, 0.25))
                tapped = time.monotonic()
                tap = run(tablet.touch("touchStart", place))
                arm.wait(lambda: arm.safety[-1].estop, "stopped by the tap")
                arm.watch(AFTERWARDS)
                times.append(1e3 * arm.commands.held_after(tapped))
                tap.result(PATIENCE)
                run(tablet.touch("touchEnd")).result(PATIENCE)
                arm.release()
            rate = run(tablet.ask("cameras.map(each => each.note.textContent).join(', ')")).result(PATIENCE)
    times.sort()
    value = times[min(len(times) - 1, math.ceil(0.99 * len(times)) - 1)]
    spread = f"{len(times)} taps; median {times[len(times) // 2]:.0f}, smallest {times[0]:.0f}; pictures {rate}"
    return Measurement(value, spread, {"ms": [round(each, 1) for each in times]})


@contextmanager
def _console(folder: Path, arm: Arm) -> Iterator[str]:
    """The address of a console that runs for the arm."""
    log = folder / "console.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serl_cli", "console", "--port", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while (found := _ADDRESS.search(log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise CommandError(f"the console did not start: {log.read_text()}")
            arm.watch(0.1)
        yield found[1]
    finally:
        stop(process)


@contextmanager
def _browsers(folder: Path, address: str) -> Iterator[tuple[Page, Any]]:
    """Two windows that show the pictures, of which the first one is given, and what runs coroutines beside us."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="browsers")
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop)

    opened = _opened(folder, address)
    try:
        page = run(opened.__aenter__()).result(3 * PATIENCE)
        try:
            yield page, run
        finally:
            run(opened.__aexit__(None, None, None)).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def _opened(folder: Path, address: str) -> AsyncIterator[Page]:
    async with chromium(folder) as browser, browser.page(address) as one, browser.page(address) as two:
        for page in (one, two):
            await page.until(_SHOWS)
        yield one
