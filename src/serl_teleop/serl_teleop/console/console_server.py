# SPDX-License-Identifier: Apache-2.0
"""Serves the console to some browsers: the page, and a websocket for each of them.

From the server come texts of JSON (`hello`, `state` ten times a second, `curves`, `notice`, `refused`) and pictures
(see `browser.PICTURE_HEAD`). What a page may say is in `requests`. The e-stop has a second way, a POST, for a page that
is just making its websocket anew.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.resources import files

from aiohttp import WSMsgType, web
from serl_config.own_page import OwnPage
from serl_config.text import printable

from serl_teleop.console.browser import Browser
from serl_teleop.console.requests import (
    Do,
    Hold,
    LetGo,
    Release,
    Request,
    RequestError,
    Seen,
    Stop,
    Watch,
    parse,
)
from serl_teleop.console.robot import DEEDS, Robot

MOST_BROWSERS = 8
STATE_PERIOD = 0.1  # [s]

_PICTURE_PERIOD = 1 / 30  # [s] between two looks at the cameras
_CURVES_PERIOD = 1.0  # [s] at least between two times that curves are sent
_BEAT = 3.0  # [s] between pings; without an answer within half of it the connection is lost
_LARGEST_FRAME = 65536  # [bytes]; what is larger than a message may be, and smaller than this, is answered by a line
# The page is ours alone: nothing comes from elsewhere, and no other page may show it.
_SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ConsoleServer:
    """Answers the browsers. `address_path` has the token: who does not know it sees and does nothing."""

    def __init__(
        self, robot: Robot, *, host: str = "127.0.0.1", token: str = "", say: Callable[[str], object] = lambda _: None
    ) -> None:
        """Prepare the application.

        Args:
            robot: what is shown and led.
            host: address that will be listened on; `Host` headers of other names are refused.
            token: of the address; empty: a new one.
            say: takes lines for whoever started the console.
        """
        self._robot, self._say = robot, say
        self.address_path = f"/{token or secrets.token_urlsafe(18)}/"
        self._browsers: dict[str, Browser] = {}
        self._made = 0  # browsers so far
        self._coming = 0  # browsers that are being let in
        self._number = 0  # of states
        self._curves_version = -1
        self.app = web.Application(client_max_size=1024, middlewares=[OwnPage(host).middleware])
        self.app.on_response_prepare.append(_make_safe)
        self.app.add_routes(
            [
                web.get(self.address_path, self._page),
                web.get(self.address_path + "live", self._live),
                web.post(self.address_path + "estop", self._stop),
            ]
        )
        self.app.cleanup_ctx.append(self._work)
        self.app.on_shutdown.append(self._close_all)

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(
            text=files("serl_teleop.console").joinpath("console.html").read_text("utf-8"), content_type="text/html"
        )

    async def _stop(self, request: web.Request) -> web.Response:
        self._robot.stop(f"a browser at {request.remote}")
        return web.json_response({"stopping": True})

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._browsers) + self._coming >= MOST_BROWSERS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_BROWSERS} browsers look already; close one of them")
        socket = web.WebSocketResponse(heartbeat=_BEAT, max_msg_size=_LARGEST_FRAME, compress=False)
        self._coming += 1  # others may come while this one is answered
        try:
            await socket.prepare(request)
        finally:
            self._coming -= 1
        self._made += 1
        browser = Browser(f"browser {self._made}", socket)
        self._browsers[browser.name] = browser
        self._say(f"{browser.name} is there, from {request.remote}")
        self._greet(browser)
        sender = asyncio.create_task(self._send(browser))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._receive(browser, message.data)
                elif message.type is WSMsgType.BINARY:
                    self._refuse(browser, "message: expected text, found bytes")
        finally:
            self._robot.lead.leave(browser.name)
            del self._browsers[browser.name]
            sender.cancel()
            self._say(f"{browser.name} is gone")
        return socket

    async def _send(self, browser: Browser) -> None:
        with suppress(ConnectionError):  # the connection is lost, which whoever reads from it notices
            await browser.send(asyncio.get_running_loop())

    def _greet(self, browser: Browser) -> None:
        browser.tell(
            {"type": "hello", "you": browser.name, "deeds": DEEDS, "cameras": self._robot.cameras()}
            | dict(self._robot.about())
        )
        browser.tell({"type": "curves", "curves": self._robot.curves()[1]})

    # What a browser says

    def _receive(self, browser: Browser, text: str) -> None:
        robot, now = self._robot, asyncio.get_running_loop().time()
        try:
            request = parse(text, components=robot.components, cameras=robot.cameras(), deeds=DEEDS)
        except RequestError as error:
            if browser.budget.allows(now):  # more lines than that would help nobody
                self._refuse(browser, str(error))
            return
        if isinstance(request, Stop):  # has no budget
            robot.stop(browser.name)
        elif browser.budget.allows(now):
            self._follow(browser, request, now)
        elif isinstance(request, Hold):
            robot.lead.refuse(browser.name, request.number, "too many messages")

    def _follow(self, browser: Browser, request: Request, now: float) -> None:
        robot = self._robot
        match request:
            case Seen():
                browser.has_seen(request)
            case Watch(cameras):
                browser.watched = cameras
                self._watch()
            case Hold(number, state, jog):
                reason = robot.why_not_lead()
                if not reason and not browser.sees(state, now):
                    reason = "the connection is slow: what you see is old"
                if reason:
                    reason = robot.lead.refuse(browser.name, number, reason)
                else:
                    reason = robot.lead.hold(browser.name, number, jog, now)
                if reason:
                    browser.tell({"type": "refused", "hold": number, "reason": reason})
            case LetGo(number):
                robot.lead.let_go(browser.name, number)
            case Release():
                robot.release(browser.name)
            case Do(deed):
                robot.do(deed, browser.name)

    def _refuse(self, browser: Browser, reason: str) -> None:
        line = f"{browser.name}: message refused: {printable(reason, 200)}"
        self._say(line)
        browser.tell({"type": "notice", "text": line})

    # What all browsers are told

    async def _work(self, _app: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(each) for each in (self._tell_states(), self._show_pictures(), self._tell_curves())
        ]
        for task in tasks:
            task.add_done_callback(self._ended)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Without states nobody leads, so a bug here moves nothing; it is said, and the e-stop goes on."""
        if not task.cancelled() and task.exception() is not None:
            self._say(f"the console is broken, start it again: {printable(repr(task.exception()), 300)}")

    async def _close_all(self, _app: web.Application) -> None:
        for browser in list(self._browsers.values()):
            await browser.close()

    async def _tell_states(self) -> None:
        cameras: tuple[str, ...] = ()
        while True:
            for text in self._robot.notices():
                for browser in self._browsers.values():
                    browser.tell({"type": "notice", "text": text})
            if self._browsers and self._robot.cameras() != cameras:
                cameras = self._robot.cameras()
                for browser in self._browsers.values():
                    browser.tell({"type": "cameras", "cameras": cameras})
            if self._browsers:
                self._number += 1
                state = {"type": "state", "number": self._number, "browsers": len(self._browsers)}
                text = json.dumps(state | self._robot.state())
                for browser in self._browsers.values():
                    browser.show_state(self._number, text)
            await asyncio.sleep(STATE_PERIOD)

    async def _tell_curves(self) -> None:
        while True:
            version, curves = self._robot.curves()
            if version != self._curves_version:
                self._curves_version = version
                for browser in self._browsers.values():
                    browser.tell({"type": "curves", "curves": curves})
            await asyncio.sleep(_CURVES_PERIOD)

    async def _show_pictures(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._watch()
            for index, camera in enumerate(self._robot.cameras()):
                number = self._robot.picture_number(camera)
                wanting = [browser for browser in self._browsers.values() if browser.wants(camera, number)]
                if not wanting:
                    continue
                try:
                    jpeg, age = await asyncio.to_thread(self._robot.jpeg, camera)
                except ValueError as error:
                    self._say(f"{camera}: {printable(error, 200)}")
                    jpeg, age = b"", 0.0
                for browser in wanting:
                    browser.show_picture(camera, index, number, jpeg, age)
            await asyncio.sleep(max(0.005, began + _PICTURE_PERIOD - loop.time()))

    def _watch(self) -> None:
        watched = {camera for browser in self._browsers.values() for camera in browser.watched}
        self._robot.watch(watched if self._browsers else None)


async def _make_safe(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SAFE)
