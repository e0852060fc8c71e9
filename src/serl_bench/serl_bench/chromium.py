# SPDX-License-Identifier: Apache-2.0
"""A real browser, without a window: pages that are opened, clicked and touched by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from serl_launch.errors import CommandError

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 20.0
"""Longest wait for an answer, or for something on a page [s]."""


class ChromiumError(CommandError):
    """There is no browser, or it does not do as it is told."""


class Page:
    """One tab."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        """Talk to it by its websocket."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.errors: list[str] = []
        """What its script raised."""
        self.requests: list[str] = []
        """Addresses that it asked for."""
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            data = message.json()
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
            elif data["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(data["params"]["exceptionDetails"]))
            elif data["method"] == "Network.requestWillBeSent":
                self.requests.append(data["params"]["request"]["url"])

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol.

        Raises:
            ChromiumError: it answers with an error.
        """
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], PATIENCE)
        if "error" in answer:
            raise ChromiumError(f"{method}: {answer['error']}")
        return answer["result"]

    async def open(self, address: str, *, size: tuple[int, int] = (1280, 800), dark: bool = False) -> None:
        """Go to an address, as a tablet of this size [pixels]."""
        for domain in ("Page", "Runtime", "Network"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        await self.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=address)

    async def ask(self, expression: str) -> Any:
        """The value of an expression in the page.

        Raises:
            ChromiumError: it raises.
        """
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise ChromiumError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true in the page; return its value.

        Raises:
            ChromiumError: it was not within `PATIENCE`.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while not (
                    value := await self.ask(f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()")
                ):
                    await asyncio.sleep(0.02)
                return value
        except TimeoutError:
            seen = await self.ask("document.body.innerText")
            raise ChromiumError(f"waited in vain for {expression}; errors: {self.errors}; the page:\n{seen}") from None

    async def middle(self, selector: str) -> tuple[float, float]:
        """Middle of an element [pixels], scrolled into view."""
        place = f"document.querySelector({selector!r})"
        await self.ask(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = await self.ask(f"(box => [box.x, box.y, box.width, box.height])({place}.getBoundingClientRect())")
        return box[0] + box[2] / 2, box[1] + box[3] / 2

    async def mouse(self, kind: str, x: float, y: float) -> None:
        """`mousePressed`, `mouseMoved` or `mouseReleased`, with the left button."""
        await self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="left",
            buttons=int(kind != "mouseReleased"),
            clickCount=1,
        )

    async def click(self, selector: str) -> None:
        """Press and release the mouse on an element."""
        x, y = await self.middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.mouse(kind, x, y)

    async def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """`touchStart`, `touchMove` or `touchEnd`, with all fingers that are down."""
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        await self.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    async def screenshot(self, file: Path) -> None:
        """What is seen, as PNG."""
        picture = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(picture["data"]))

    async def close(self) -> None:
        """Close the tab."""
        await self._socket.close()
        await self._reader


class Chromium:
    """A browser that runs."""

    def __init__(self, session: ClientSession, port: int) -> None:
        """Talk to it on its port."""
        self._session, self._port = session, port

    @asynccontextmanager
    async def page(self, address: str, **options: Any) -> AsyncIterator[Page]:
        """Show an address in a window of its own: a tab behind another one would be hidden."""
        root = f"127.0.0.1:{self._port}"
        async with self._session.get(f"http://{root}/json/version") as answer:
            whole = (await answer.json(content_type=None))["webSocketDebuggerUrl"]
        async with self._session.ws_connect(whole) as socket:
            browser = Page(socket)
            made = await browser.call("Target.createTarget", url="about:blank", newWindow=True)
            await browser.close()
        async with self._session.ws_connect(f"ws://{root}/devtools/page/{made['targetId']}", max_msg_size=0) as socket:
            page = Page(socket)
            await page.open(address, **options)
            yield page
            async with self._session.get(f"http://{root}/json/close/{made['targetId']}"):
                pass
            await page.close()


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Chromium]:
    """Start a browser whose profile is in `folder`, and end it.

    Raises:
        ChromiumError: there is none, or it does not start.
    """
    if PROGRAM is None:
        raise ChromiumError("no Chromium here: apt-get install chromium")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", PROGRAM, *options, "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE), ClientSession() as session:
            told = folder / "DevToolsActivePort"
            while not (told.exists() and told.read_text().count("\n")):
                if process.poll() is not None:
                    raise ChromiumError(f"{PROGRAM} ended with {process.returncode}")
                await asyncio.sleep(0.05)
            port = int(told.read_text().split()[0])
        async with ClientSession() as session:
            yield Chromium(session, port)
    finally:
        process.kill()
        process.wait()
