# SPDX-License-Identifier: Apache-2.0
"""`serl teleop` without a graph: what is plugged in, what it reports, and the udev rule."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from serl_cli.app import main
from serl_teleop.devices.hid.spacemouse import UDEV_RULE

SERL = (sys.executable, "-u", "-m", "serl_cli", "teleop")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Parameters of a SpaceMouse that stands opposite, in a folder in the place of /sys."""
    about = tmp_path / "sys/class/hidraw/hidraw0/device"
    about.mkdir(parents=True)
    (about / "uevent").write_text("HID_ID=0003:0000256F:0000C62E\nHID_NAME=3Dconnexion SpaceMouse Wireless\n")
    (about / "report_descriptor").write_bytes(bytes.fromhex("05010908a101"))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    spacemouse:\n"
        f"      sysfs: {tmp_path}/sys\n      dev: {tmp_path}\n      axes: [-forward, -left, up, none, none, yaw]\n"
    )
    return file


@pytest.mark.graph
def test_check_shows_the_mapping_and_what_the_device_reports(
    processes: Any, settings: Path, tmp_path: Path, wait_until: Any
) -> None:
    os.mkfifo(tmp_path / "hidraw0")
    pipe = os.open(tmp_path / "hidraw0", os.O_RDWR)
    fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_DIRECT)  # packets stay apart, as reports do
    check = processes.start(*SERL, "check", "spacemouse", "--settings", str(settings))
    wait_until(lambda: "is at rest" in check.output(), 20.0)
    assert "dx = -1 forward" in check.output()
    assert "button left = toggle" in check.output()
    os.write(pipe, struct.pack("<B6h", 1, 0, -350, 0, 0, 0, 0))
    wait_until(lambda: "leads dx -1.00" in check.output(), 20.0)
    assert "[+1.00 +0.00 +0.00" in check.output()
    os.close(pipe)
    wait_until(lambda: "was it unplugged?" in check.output(), 20.0)
    assert check.stop() == 130
    assert "Traceback" not in check.output()


def test_check_of_what_is_not_there_ends_with_a_line(
    settings: Path, capsys: pytest.CaptureFixture[str], ros_domain: int
) -> None:
    assert main(["teleop", "check", "spacemouse", "--settings", str(settings), "--seconds", "0.2"]) == 1
    assert "hidraw0: No such file or directory" in capsys.readouterr().err


def test_settings_that_cannot_be_meant_are_named(
    settings: Path, capsys: pytest.CaptureFixture[str], ros_domain: int
) -> None:
    settings.write_text(settings.read_text().replace("yaw", "sideways"))
    assert main(["teleop", "check", "spacemouse", "--settings", str(settings), "--seconds", "0.2"]) == 1
    assert "'sideways'" in capsys.readouterr().err


def test_the_udev_rule_is_shown_or_written_and_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["teleop", "rule"]) == 0
    assert capsys.readouterr().out.strip() == UDEV_RULE
    file = tmp_path / "70-spacemouse.rules"
    assert main(["teleop", "rule", str(file)]) == 0
    assert file.read_text().strip() == UDEV_RULE


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["teleop", "lead", "wand"], "no device 'wand'"),
        (["train", "pick_cube", "--teleop", "spacemouse"], "add --rtf 1"),
        (["record", "pick_cube", "--teleop", "joy"], "add --rtf 1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_started(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert named in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
