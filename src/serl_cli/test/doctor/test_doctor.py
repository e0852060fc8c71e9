# SPDX-License-Identifier: Apache-2.0
"""`serl doctor` on a machine that is a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from serl_cli.app import main
from serl_cli.doctor.finding import Finding, Level
from serl_cli.doctor.machine import findings


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """16 GiB of memory, a SpaceMouse, a camera and a serial port."""
    mouse = tmp_path / "sys/class/hidraw/hidraw3/device"
    mouse.mkdir(parents=True)
    (mouse / "uevent").write_text("HID_ID=0003:0000256F:0000C62E\nHID_NAME=3Dconnexion SpaceMouse Wireless\n")
    (mouse / "report_descriptor").write_bytes(bytes.fromhex("05010908a101"))
    camera = tmp_path / "sys/class/video4linux/video0"
    camera.mkdir(parents=True)
    (camera / "index").write_text("0\n")
    (camera / "name").write_text("Webcam\n")
    for name in ("hidraw3", "video0", "ttyACM0"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    (tmp_path / "proc").mkdir()
    remember(tmp_path, 9.5)
    return tmp_path


def remember(machine: Path, free: float) -> None:
    kilobytes = f"MemTotal: {16 * 2**20} kB\nMemAvailable: {round(free * 2**20)} kB\nHugePages_Total: 0\n"
    (machine / "proc/meminfo").write_text(kilobytes)


def looked(machine: Path, *, may: bool = True) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(machine, machine, lambda _path, _mode: may)}


def test_a_machine_on_which_all_is_well_needs_no_advice(machine: Path) -> None:
    found = looked(machine)
    assert {"Python", "ROS domain", "memory", "disk", "GPU", "SpaceMouse", "camera", "serial port"} <= set(found)
    assert found["memory"].text == "9.5 of 16.0 GiB free"
    devices = [found[name] for name in ("SpaceMouse", "camera", "serial port")]
    assert {device.level for device in devices} == {Level.GOOD}
    assert not any(device.advice for device in devices)
    assert found["serial port"].text == "/dev/ttyACM0"


def test_devices_that_may_not_be_read_are_named_with_what_to_do(machine: Path) -> None:
    found = looked(machine, may=False)
    assert {found[name].level for name in ("SpaceMouse", "camera", "serial port")} == {Level.BAD}
    assert "./serl teleop rule" in found["SpaceMouse"].advice
    assert "usermod -aG video" in found["camera"].advice
    assert "usermod -aG dialout" in found["serial port"].advice


def test_little_memory_and_an_unused_graphics_card_are_noted(machine: Path) -> None:
    remember(machine, 0.7)
    (machine / "dev/nvidia0").touch()
    found = looked(machine)
    assert found["memory"].level is Level.NOTE
    assert found["memory"].advice
    assert found["GPU"].level is not Level.BAD
    assert "NVIDIA" in found["GPU"].text


def test_a_domain_that_was_chosen_is_said(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "177")
    assert "177" in looked(machine)["ROS domain"].text


@pytest.mark.parametrize("level", list(Level))
def test_the_command_ends_as_what_it_found(
    level: Level, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("serl_cli.doctor.machine.findings", lambda: [Finding("disk", level, "full", "empty it")])
    assert main(["doctor"]) == (1 if level is Level.BAD else 0)
    assert capsys.readouterr().out.splitlines() == [f"{level.value:<4}  disk: full", "      empty it"]
