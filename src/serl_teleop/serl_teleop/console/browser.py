# SPDX-License-Identifier: Apache-2.0
"""One browser: what it is sent, and that it is never sent more than it shows.

The page says of each state and each picture that it has shown it. What comes meanwhile is left out, so a slow tablet
gets fewer pictures and never old ones: no queue grows, neither here nor in the buffers of the network.
"""

import asyncio
import json
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import WSCloseCode, web

from serl_teleop.console.requests import Budget, Seen

PICTURE_HEAD = struct.Struct("<BIf")
"""What stands before each JPEG file: index of the camera in `hello`, number of the picture, its age [s]."""

_STATES_ON_THE_WAY = 4
_PICTURES_ON_THE_WAY = 2  # of one camera
_MESSAGES = 150.0  # [1/s] that a browser may send: 20 holds, 10 states and 30 pictures of each of some cameras
_STATE_AGE = 0.5  # [s] after which a state is no longer what the person sees
_MOST_NOTICES = 20  # that wait for a slow page


class Browser:
    """A websocket, and what waits to be sent on it."""

    def __init__(self, name: str, socket: web.WebSocketResponse) -> None:
        """Nothing was sent yet."""
        self.name, self._socket = name, socket
        self.budget = Budget(_MESSAGES)
        self.watched: tuple[str, ...] = ()
        self._wakes = asyncio.Event()
        self._texts: list[str] = []
        self._state: tuple[int, str] | None = None
        self._pictures: dict[str, tuple[int, bytes]] = {}
        self._sent_states: dict[int, float] = {}  # number -> when
        self._sent_pictures: dict[str, dict[int, None]] = {}
        self._newest_picture: Counter[str] = Counter()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message that is no state. The oldest is left out where too many wait."""
        self._texts = [*self._texts[1 - _MOST_NOTICES :], json.dumps(message)]
        self._wakes.set()

    def show_state(self, number: int, text: str) -> None:
        """Send a state, unless a newer one comes first."""
        self._state = number, text
        self._wakes.set()

    def wants(self, camera: str, number: int) -> bool:
        """Whether a picture would be sent now."""
        return (
            camera in self.watched
            and number > self._newest_picture[camera]
            and len(self._sent_pictures.get(camera, ())) < _PICTURES_ON_THE_WAY
        )

    def show_picture(self, camera: str, index: int, number: int, jpeg: bytes, age: float) -> None:
        """Send a picture of the camera that is number `index` in `hello`."""
        self._newest_picture[camera] = number
        self._pictures[camera] = number, PICTURE_HEAD.pack(index, number & 0xFFFFFFFF, age) + jpeg
        self._wakes.set()

    def has_seen(self, seen: Seen) -> None:
        """The page has shown something: what was sent before it is not on its way any more."""
        on_the_way = self._sent_pictures.get(seen.camera, {}) if seen.camera else self._sent_states
        for number in [each for each in on_the_way if each <= seen.number]:
            if seen.camera or number != seen.number:  # the newest state says what the person sees
                del on_the_way[number]
        self._wakes.set()

    def sees(self, state: int, now: float) -> bool:
        """Whether the state of this number was sent a moment ago: whoever sees an older one does not lead."""
        sent = self._sent_states.get(state)
        return sent is not None and now - sent <= _STATE_AGE

    async def close(self) -> None:
        """Say goodbye: the server ends."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the console has ended")

    async def send(self, clock: "asyncio.AbstractEventLoop") -> None:
        """Send what waits, for ever."""
        while True:
            await self._wakes.wait()
            self._wakes.clear()
            while self._texts:
                await self._socket.send_str(self._texts.pop(0))
            if self._state is not None and len(self._sent_states) < _STATES_ON_THE_WAY:
                (number, text), self._state = self._state, None
                self._sent_states[number] = clock.time()
                await self._socket.send_str(text)
            for camera in [each for each in self._pictures if self._has_room(each)]:
                picture, data = self._pictures.pop(camera)
                self._sent_pictures.setdefault(camera, {})[picture] = None
                await self._socket.send_bytes(data)

    def _has_room(self, camera: str) -> bool:
        return len(self._sent_pictures.get(camera, ())) < _PICTURES_ON_THE_WAY
