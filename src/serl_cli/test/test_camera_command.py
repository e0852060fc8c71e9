# SPDX-License-Identifier: Apache-2.0
"""`serl camera` with a real camera node, which plays a folder of pictures."""

import json
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serl_cli.app import main
from serl_tasks.camera_view import CameraView

CAMERA = (sys.executable, "-c", "from serl_cameras.camera_node import main; main()", "--ros-args")
SERL = (sys.executable, "-u", "-m", "serl_cli", "camera")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.mark.graph
def test_a_crop_is_chosen_from_the_running_camera(
    processes: Any, tmp_path: Path, picture: np.ndarray, wait_until: Any
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture[..., ::-1])
    tasks = tmp_path / "share/config/tasks"
    tasks.mkdir(parents=True)
    text = (ROOT / "config/tasks/pick_cube_vision.yaml").read_text()
    (tasks / "my_task.yaml").write_text(text.replace("name: pick_cube_vision", "name: my_task"))
    still = ("-p", "source:=file", "-p", f"path:={folder}", "-p", "frozen_after:=0.0")
    processes.start(*CAMERA, "-r", "__node:=front", *still)
    page = processes.start(*SERL, "crop", "my_task", "--port", "0", env={"SERL_SHARE": str(tasks.parents[1])})
    wait_until(lambda: "Ctrl-C ends it" in page.output(), 60.0)
    found = re.search(r"http://localhost:\d+/\S+/", page.output())
    assert found is not None
    assert "ssh -L" in page.output()
    address = found[0]

    def get(path: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(address + path, data, timeout=30.0) as answer:
            body: bytes = answer.read()
            return body

    def view() -> bytes:
        try:
            return get("view/front?crop=[0.25,0,0.5,1]")
        except urllib.error.HTTPError as error:
            assert error.read() == b"nothing on /front/color/image_raw yet"
            return b""

    wait_until(lambda: bool(view()), 60.0)
    pixels = cv2.imdecode(np.frombuffer(view(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(pixels[..., ::-1], CameraView(crop=(0.25, 0.0, 0.5, 1.0)).apply(picture))
    assert [camera["name"] for camera in json.loads(get("state"))["cameras"]] == ["front", "wrist"]
    assert json.loads(get("crop/front", b"[0.25, 0, 0.5, 1]"))["saved"] == str(tasks / "my_task.yaml")
    assert "front: {size: [128, 128], crop: [0.25, 0.0, 0.5, 1.0]}" in (tasks / "my_task.yaml").read_text()
    assert page.stop() == 0  # by itself, else it would be killed
    assert "Traceback" not in page.output()


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str], ros_domain: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["camera", "show", "pick_cube_vision", "--port", str(port)]) == 1
    assert f"port {port}: process {os.getpid()} (" in (said := capsys.readouterr().err)
    assert "uses it, choose with --port" in said


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["pick_cube"], 1, "the task sees nothing"),
        (["pick_cub"], 1, "did you mean 'pick_cube'"),
        (["pick_cube_vision", "--camera", "left"], 2, "has no camera 'left'; it has front, wrist"),
    ],
)
def test_what_has_no_camera_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, text: str
) -> None:
    assert main(["camera", "crop", *arguments]) == status
    assert text in capsys.readouterr().err


def test_a_machine_without_cameras_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["camera", "list"]) == 0
    assert capsys.readouterr().out
