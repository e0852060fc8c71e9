# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import cv2
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from serl_cameras.crop_page.crop_server import CropServer, Seen
from serl_config.schema import ConfigError
from serl_tasks.camera_view import CameraView

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
VIEWS = {"front": CameraView(size=(16, 16), crop=(0.0, 0.0, 0.25, 0.25)), "wrist": CameraView(size=(32, 16))}


def ask(method, path, save=None, picture=PICTURE, data=None, headers=None, host="127.0.0.1"):
    """Return status, headers and body of one answer."""

    def newest(camera):
        return (
            Seen(picture, 0.5, "") if camera == "front" else Seen(None, None, "nothing on /wrist/color/image_raw yet")
        )

    server = CropServer("Cameras of my_task", VIEWS, newest, save, host)

    async def run():
        async with TestClient(TestServer(server.app)) as client:
            root = server.address_path if not path.startswith("/") else ""
            port = str(client.port)
            sent = {name: value.replace("PORT", port) for name, value in (headers or {}).items()}
            async with client.request(method, root + path, data=data, headers=sent) as answer:
                return answer.status, answer.headers, await answer.read()

    return asyncio.run(run())


def decoded(body):
    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_page_is_there_only_for_those_who_know_where():
    status, headers, body = ask("GET", "")
    assert status == 200
    assert b"<title>" in body
    assert headers["Cache-Control"] == "no-store"
    for path in ("/", "/picture/front", "/wrong/", "/state"):
        assert ask("GET", path)[0] == 404


def test_the_page_loads_nothing_from_elsewhere():
    _, headers, body = ask("GET", "")
    assert b"http" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_picture_comes_with_its_size_and_age():
    status, headers, body = ask("GET", "picture/front")
    assert status == 200
    assert (headers["X-Width"], headers["X-Height"], headers["X-Age"]) == ("64", "48", "0.50")
    assert decoded(body).shape == (48, 64, 3)


def test_a_large_picture_is_sent_smaller_and_says_what_it_was():
    _, headers, body = ask("GET", "picture/front", picture=np.zeros((1080, 1920, 3), np.uint8))
    assert (headers["X-Width"], headers["X-Height"]) == ("1920", "1080")
    assert decoded(body).shape == (540, 960, 3)


@pytest.mark.parametrize("crop", [None, (0.25, 0.5, 0.5, 0.5)])
def test_the_view_is_what_the_policy_sees(crop):
    _, _, body = ask("GET", "view/front?crop=" + ("null" if crop is None else str(list(crop))))
    np.testing.assert_array_equal(decoded(body), CameraView(size=(16, 16), crop=crop).apply(PICTURE))


def test_a_camera_without_pictures_says_why():
    assert ask("GET", "picture/wrist")[::2] == (503, b"nothing on /wrist/color/image_raw yet")
    assert ask("GET", "picture/left")[0] == 404


@pytest.mark.parametrize(("data", "crop"), [("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)), ("null", None)])
def test_a_crop_is_saved(data, crop):
    saved = []

    def save(camera, value):
        saved.append((camera, value))
        return Path("/somewhere/my_task.yaml")

    status, _, body = ask("POST", "crop/front", save, data=data)
    assert (status, body) == (200, b'{"saved": "/somewhere/my_task.yaml"}')
    assert saved == [("front", crop)]


@pytest.mark.parametrize(
    "data", ["", "[1, 2]", "[0, 0, 2, 2]", "[0, 0, NaN, 1]", '["a", 0, 1, 1]', "{}", "[true,0,1,1]"]
)
def test_what_is_no_crop_is_refused(data):
    status, _, body = ask("POST", "crop/front", lambda *_: pytest.fail("saved"), data=data)
    assert status == 400
    assert body.startswith(b"crop: expected")


def test_why_a_crop_is_not_saved_reaches_the_person():
    def save(camera, crop):
        raise ConfigError("my_task.yaml: cannot be written")

    assert ask("POST", "crop/front", save, data="null")[::2] == (409, b"my_task.yaml: cannot be written")


def test_a_page_that_only_shows_saves_nothing():
    assert ask("POST", "crop/front", None, data="null")[0] == 403


HOSTS = {
    "127.0.0.1": (
        ["localhost", "localhost:PORT", "LocalHost:1", "127.0.0.1", "127.0.0.1:PORT", "[::1]:PORT", "localhost.:PORT"],
        ["evil.example", "evil.example:PORT", "127.0.0.1.evil.example", "localhost@evil.example", "192.168.0.7:PORT"],
    ),
    "192.168.0.7": (["192.168.0.7:PORT", "localhost:PORT"], ["192.168.0.8:PORT", "evil.example"]),
    "robot-pc": (["robot-pc:PORT", "ROBOT-PC"], ["evil.example", "robot-pc.evil.example"]),
    "0.0.0.0": (["192.168.0.7:PORT", "[fe80::1]:PORT", "localhost"], ["evil.example", "a b", "", "[::1", "x:y"]),
}


@pytest.mark.parametrize("host", HOSTS)
def test_another_name_for_our_address_is_refused(host):
    ours, foreign = HOSTS[host]
    for name in ours:
        assert ask("GET", "", headers={"Host": name}, host=host)[0] == 200, name
    for name in foreign:
        for method, path in (("GET", ""), ("GET", "picture/front"), ("POST", "crop/front"), ("GET", "/")):
            status, _, body = ask(
                method, path, lambda *_: pytest.fail("saved"), data="null", headers={"Host": name}, host=host
            )
            # What is no name at all may be refused by aiohttp itself.
            assert status == 421 or (status == 400 and name in ("", "a b", "[::1", "x:y")), name
            assert len(body.splitlines()) == 1 or status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://localhost:PORT"},  # as good as ours, but not where this page is from
        {"Origin": "https://127.0.0.1:PORT"},
        {"Origin": "http://127.0.0.1:PORT.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_what_another_page_asks_for_is_refused(headers):
    for method, path in (("POST", "crop/front"), ("GET", "picture/front"), ("GET", "state")):
        status, _, body = ask(method, path, lambda *_: pytest.fail("saved"), data="null", headers=headers)
        assert (status, body[:40]) == (403, b"Origin: expected http://127.0.0.1:" + body[34:40])


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://127.0.0.1:PORT"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_our_own_page_may_save(headers):
    headers = {"Content-Type": "application/json", **headers}
    assert ask("POST", "crop/front", lambda *_: Path("/x"), data="null", headers=headers)[0] == 200


@pytest.mark.parametrize("data", ["crop=null", "null=null", "--x\r\n\r\nnull\r\n--x--"])
def test_a_form_is_no_crop(data):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask("POST", "crop/front", lambda *_: pytest.fail("saved"), data=data, headers=headers)[0] == 400


@pytest.mark.parametrize("data", ["[" * 4000, "9" * 4000, "[0, 0, 1e999, 1]", "\x00", "[[[[0]]]]"])
def test_odd_json_is_refused(data):
    status, _, body = ask("POST", "crop/front", lambda *_: pytest.fail("saved"), data=data)
    assert (status, len(body.splitlines())) == (400, 1)


def test_a_long_body_is_refused():
    assert ask("POST", "crop/front", lambda *_: pytest.fail("saved"), data="[" + " " * 100_000 + "]")[0] == 413
