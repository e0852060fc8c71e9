# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
import struct
import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from socket import create_connection

import pytest
from aiohttp import ClientSession, ClientTimeout, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from serl_config.listening import listening
from serl_teleop.console.console_server import MOST_BROWSERS, ConsoleServer
from serl_teleop.console.curves import MOST_POINTS, Curves
from serl_teleop.console.lead import Lead
from serl_teleop.console.requests import MOST_BYTES, Budget, RequestError, parse
from serl_teleop.console.robot import DEEDS
from serl_teleop.console.server_thread import MOST_CONNECTIONS, served

PATIENCE = 30.0  # [s]


class Machine:
    """A robot of two cameras that writes down what it is asked."""

    components = ("dx", "dy", "gripper")

    def __init__(self):
        self.lead, self.asked, self.seen_by = Lead(), [], None
        self.pictures = {"front": 0, "wrist": 0}
        self.refusal = ""

    def about(self):
        return {"task": "pick_cube", "components": self.components}

    def state(self):
        held = self.lead.current(time.monotonic())
        return {"holder": held[0] if held else "", "estop": ("stop", "any") in self.asked}

    def curves(self):
        return 0, []

    def cameras(self):
        return tuple(self.pictures)

    def watch(self, cameras):
        self.seen_by = cameras

    def picture_number(self, camera):
        return self.pictures[camera]

    def jpeg(self, camera):
        if camera == "wrist":
            raise ValueError("no picture")
        return b"\xff\xd8" + self.pictures[camera].to_bytes(4, "little"), 0.25

    def stop(self, who):
        self.asked.append(("stop", who))

    def release(self, who):
        self.asked.append(("release", who))

    def why_not_lead(self):
        return self.refusal

    def do(self, deed, who):
        self.asked.append((deed, who))

    def notices(self):
        return []


class Tablet:
    """A page as the server sees it."""

    def __init__(self, socket):
        self.socket, self.state = socket, None

    async def next(self, kind, **wanted):
        """The next message of a kind with these values; states are acknowledged on the way, as the page does."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.socket.receive()
                if isinstance(message.data, bytes):
                    data = {"type": "picture", "data": message.data}
                else:
                    data = json.loads(message.data)
                if data["type"] == "state":
                    self.state = data
                    await self.say(type="seen", number=data["number"])
                if data["type"] == kind and all(data[name] == value for name, value in wanted.items()):
                    return data

    async def say(self, **message):
        await self.socket.send_str(json.dumps(message))

    async def hold(self, number, state=None, **action):
        state = self.state["number"] if state is None else state
        await self.say(type="hold", hold=number, state=state, action=action)

    async def lead(self, name, number, **action):
        """Hold until it leads, under its name; again and again, as a busy machine may be slower than a dead man."""
        while True:
            await self.hold(number, **action)
            if (await self.next("state"))["holder"] == name:
                return number
            number += 1


class Here:
    def __init__(self, server, client, machine, lines):
        self.server, self.client, self.machine, self.lines = server, client, machine, lines

    @asynccontextmanager
    async def tablet(self, **headers):
        async with self.client.ws_connect(self.server.address_path + "live", headers=headers) as socket:
            tablet = Tablet(socket)
            await tablet.next("state")
            yield tablet


def run(test, host="127.0.0.1"):
    """Run a coroutine function with a server, its client and the machine behind it."""

    async def main():
        machine, lines = Machine(), []
        server = ConsoleServer(machine, host=host, say=lines.append)
        async with TestClient(TestServer(server.app)) as client:
            await test(Here(server, client, machine, lines))

    asyncio.run(main())


def test_the_page_is_there_only_for_those_who_have_the_token():
    async def test(here):
        root = here.server.address_path
        assert len(root) > 20
        async with here.client.get(root) as answer:
            text = await answer.text()
            assert answer.status == 200 and "<title>" in text
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert not any(word in text for word in ('src="http', "url(", "@import", 'href="http'))
        for method, path in (
            ("GET", "/"),
            ("GET", "/wrong/"),
            ("GET", "/live"),
            ("POST", "/estop"),
            ("POST", "/x/estop"),
        ):
            async with here.client.request(method, path) as answer:
                assert answer.status == 404
        assert here.machine.asked == []

    run(test)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_pages_and_other_names_neither_see_nor_stop(headers, status):
    async def test(here):
        with pytest.raises(WSServerHandshakeError) as refused:
            await here.client.ws_connect(here.server.address_path + "live", headers=headers)
        assert refused.value.status == status
        async with here.client.post(here.server.address_path + "estop", headers=headers) as answer:
            assert answer.status == status
        assert here.machine.asked == []

    run(test)


def test_on_the_network_its_address_is_ours_and_foreign_names_are_not():
    async def test(here):
        port = here.client.port
        async with here.tablet(Host=f"192.168.0.7:{port}", Origin=f"http://192.168.0.7:{port}"):
            pass
        with pytest.raises(WSServerHandshakeError):
            await here.client.ws_connect(here.server.address_path + "live", headers={"Host": "evil.example"})

    run(test, host="0.0.0.0")


def test_a_page_gets_states_and_its_name():
    async def test(here):
        async with here.tablet() as one, here.tablet() as two:
            first = await one.next("state")
            assert (await one.next("state"))["number"] > first["number"]
            assert (await two.next("state"))["browsers"] == 2
        assert here.lines[:2] == ["browser 1 is there, from 127.0.0.1", "browser 2 is there, from 127.0.0.1"]

    run(test)


def test_the_stop_goes_to_the_arm_by_both_ways():
    async def test(here):
        async with here.tablet() as tablet:
            await tablet.say(type="estop")
            await tablet.next("state")
            await tablet.next("state")
            assert here.machine.asked == [("stop", "browser 1")]
        async with here.client.post(here.server.address_path + "estop") as answer:
            assert answer.status == 200
        assert here.machine.asked[1] == ("stop", "a browser at 127.0.0.1")

    run(test)


def test_who_sends_too_much_is_passed_over_but_for_the_stop():
    async def test(here):
        async with here.tablet() as tablet:
            for _ in range(1000):
                await tablet.say(type="do", deed="pause")
            await tablet.say(type="estop")
            while ("stop", "browser 1") not in here.machine.asked:
                await tablet.next("state")
            assert 100 < here.machine.asked.count(("pause", "browser 1")) < 900

    run(test)


def test_two_browsers_and_one_leads():
    async def test(here):
        async with here.tablet() as one, here.tablet() as two:
            here.machine.lead = Lead(dead_man=PATIENCE)  # a busy machine is no silence
            await one.lead("browser 1", 5, dx=0.5)
            await two.next("state")
            await two.hold(9, dx=-1.0)
            refused = await two.next("refused")
            assert (refused["hold"], refused["reason"]) == (9, "browser 1 leads")

    run(test)


def test_a_browser_that_falls_silent_no_longer_leads_within_200_ms():
    async def test(here):
        async with here.tablet() as tablet:
            number, held = 4, None
            while held is None:
                number += 1
                await tablet.next("state")
                await tablet.hold(number, dx=1.0)
                asked = time.monotonic()
                while held is None and time.monotonic() < asked + 1.0:
                    held = here.machine.lead.current(asked)  # as at the time when it was sent: heard, not yet over
                    await asyncio.sleep(0)
            since = time.monotonic()
            assert held[1].deltas == {"dx": 1.0}
            assert here.machine.lead.current(since + 0.18) is None
            await tablet.next("state", holder="")
            await tablet.hold(number, dx=1.0)
            assert "press again" in (await tablet.next("refused"))["reason"]

    run(test)


def test_a_browser_that_closes_no_longer_leads():
    async def test(here):
        async with here.tablet() as watching:
            async with here.tablet() as tablet:
                await tablet.lead("browser 2", 5, dx=1.0)
            await watching.next("state", holder="")
            assert here.machine.lead.hold("browser 3", 1, None, time.monotonic()) == ""

    run(test)


def test_who_sees_the_robot_late_does_not_lead():
    async def test(here):
        async with here.tablet() as tablet:
            old = tablet.state["number"]
            for _ in range(8):
                await tablet.next("state")
            await tablet.hold(5, state=old, dx=1.0)
            assert "old" in (await tablet.next("refused"))["reason"]
            await tablet.hold(6, state=10**6, dx=1.0)
            assert "old" in (await tablet.next("refused"))["reason"]

    run(test)


def test_a_robot_that_cannot_be_led_says_why():
    async def test(here):
        here.machine.refusal = "the e-stop is latched: release it first"
        async with here.tablet() as tablet:
            await tablet.hold(5, dx=1.0)
            assert (await tablet.next("refused"))["reason"] == here.machine.refusal

    run(test)


def test_a_slow_page_gets_the_newest_picture_and_no_old_ones():
    async def test(here):
        async with here.tablet() as tablet:
            await tablet.say(type="watch", cameras=["front"])
            numbers = []
            for shown in range(3):
                for _ in range(2):  # as many as may be on the way; this page shows them late
                    here.machine.pictures["front"] += 1
                    picture = await tablet.next("picture")
                    index, number, age = struct.unpack_from("<BIf", picture["data"])
                    assert (index, age) == (0, 0.25)
                    assert picture["data"][9:] == b"\xff\xd8" + number.to_bytes(4, "little")
                    numbers.append(number)
                for _ in range(20):  # nobody sends these
                    here.machine.pictures["front"] += 1
                    if shown == 0:
                        await tablet.next("state")
                await tablet.say(type="seen", camera="front", number=numbers[-1])
            assert numbers == sorted(set(numbers))
            assert numbers[2] >= 23

    run(test)


def test_nobody_makes_pictures_that_nobody_looks_at():
    async def test(here):
        async with here.tablet() as tablet:
            assert not here.machine.seen_by
            await tablet.say(type="watch", cameras=["front"])
            while here.machine.seen_by != {"front"}:
                await tablet.next("state")
        async with asyncio.timeout(PATIENCE):
            while here.machine.seen_by is not None:
                await asyncio.sleep(0.01)

    run(test)


def test_a_camera_without_a_picture_shows_none():
    async def test(here):
        here.machine.pictures["wrist"] = 1
        async with here.tablet() as tablet:
            await tablet.say(type="watch", cameras=["wrist"])
            assert len((await tablet.next("picture"))["data"]) == 9

    run(test)


BAD = [
    "",
    "x" * 10_000,
    "[]",
    "{}",
    '{"type": "fly"}',
    '{"type": "do", "deed": "rm"}',
    '{"type": "do", "deed": ["success"]}',
    '{"type": "watch", "cameras": ["attic"]}',
    '{"type": "watch", "cameras": [[]]}',
    '{"type": "seen", "number": -1}',
    '{"type": "seen", "camera": {}, "number": 1}',
    '{"type": "hold", "hold": 1, "state": 1, "action": {"dx": NaN}}',
    '{"type": "hold", "hold": 1, "state": 1, "action": {"dx": 1.01}}',
    '{"type": "hold", "hold": 1, "state": 1, "action": {"dx": true}}',
    '{"type": "hold", "hold": 1, "state": 1, "action": {"rx": 1}}',
    '{"type": "hold", "hold": 1.5, "state": 1}',
    "[" * 2000,
]


def test_bad_messages_give_one_line_each_and_end_nothing():
    async def test(here):
        async with here.tablet() as tablet:
            for text in BAD:
                await tablet.socket.send_str(text)
                assert (await tablet.next("notice"))["text"].startswith("browser 1: message refused: ")
            await tablet.socket.send_bytes(b"\0")
            assert "found bytes" in (await tablet.next("notice"))["text"]
            await tablet.say(type="do", deed="success")
            while not here.machine.asked:
                await tablet.next("state")
        assert here.machine.asked == [("success", "browser 1")]
        assert all("\n" not in line and len(line) < 300 for line in here.lines)

    run(test)


def test_a_thousand_browsers_at_once_are_no_more_than_there_is_room_for():
    async def test(here):
        path = here.server.address_path + "live"
        came = await asyncio.gather(*(here.client.ws_connect(path) for _ in range(1000)), return_exceptions=True)
        sockets = [each for each in came if not isinstance(each, BaseException)]
        assert len(sockets) == MOST_BROWSERS
        assert {each.status for each in came if isinstance(each, WSServerHandshakeError)} == {503}
        await sockets[-1].send_json({"type": "estop"})
        while not here.machine.asked:
            await asyncio.sleep(0)
        for socket in sockets:
            await socket.close()

    run(test)


def test_connections_that_ask_for_nothing_neither_fill_the_process_nor_keep_anybody_out():
    machine = Machine()
    server = ConsoleServer(machine)
    with listening("127.0.0.1", 0) as door, ExitStack() as crowd:
        address = door.getsockname()
        with served(server.app, door, patience=1.0):

            async def stop() -> int:
                async with ClientSession(timeout=ClientTimeout(PATIENCE)) as session:
                    url = f"http://127.0.0.1:{address[1]}{server.address_path}estop"
                    async with session.post(url) as answer:
                        return answer.status

            files = len([*Path("/proc/self/fd").iterdir()])
            held = [crowd.enter_context(create_connection(address, PATIENCE)) for _ in range(300)]
            for each in held[MOST_CONNECTIONS:]:
                assert each.recv(1) == b"", "one too many is closed"
            assert len([*Path("/proc/self/fd").iterdir()]) <= files + len(held) + MOST_CONNECTIONS + 10
            for each in held[:MOST_CONNECTIONS]:
                assert each.recv(1) == b"", "who asks for nothing is closed, too"
            assert asyncio.run(stop()) == 200
    assert machine.asked == [("stop", "a browser at 127.0.0.1")]


def test_more_browsers_than_there_is_room_for_are_sent_away():
    async def test(here):
        path = here.server.address_path + "live"
        sockets = [await here.client.ws_connect(path) for _ in range(MOST_BROWSERS)]
        with pytest.raises(WSServerHandshakeError) as refused:
            await here.client.ws_connect(path)
        assert refused.value.status == 503
        for socket in sockets:
            await socket.close()

    run(test)


@given(
    st.one_of(
        st.text(max_size=MOST_BYTES + 10),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["type", "hold", "action", "camera", "cameras", "deed"]) | st.text(), inner
                )
            ),
            max_leaves=20,
        ).map(json.dumps),
    )
)
def test_any_text_is_a_request_or_refused(text):
    try:
        parse(text, components=Machine.components, cameras=("front",), deeds=DEEDS)
    except RequestError as error:
        assert str(error)


@given(st.lists(st.floats(0.0, 0.1), min_size=1, max_size=400))
def test_no_more_gets_through_than_the_budget(waits):
    budget, now, passed = Budget(50.0), 0.0, 0
    for wait in waits:
        now += wait
        passed += budget.allows(now)
    assert passed <= 100 + 50.0 * now + 1e-6


def test_curves_stay_short_and_keep_both_ends():
    curves = Curves()
    for step in range(10 * MOST_POINTS):
        curves.add(step, {"eval/success_rate": step / 1000, "other": 1.0})
    curves.add(10 * MOST_POINTS, {"eval/success_rate": float("nan")})
    (curve,) = curves.as_json()
    assert len(curve["points"]) <= MOST_POINTS
    assert curve["points"][0] == [0, 0.0]
    assert curve["points"][-1][0] == 10 * MOST_POINTS - 1


def test_the_shown_success_is_the_mean_of_the_last_episodes():
    curves = Curves()
    for episode in range(40):
        curves.add(episode, {"train/success": float(episode >= 30)})
    assert curves.as_json()[0]["points"][-1] == [39, 0.5]
