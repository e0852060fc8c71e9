# SPDX-License-Identifier: Apache-2.0
"""The graph around the real driver of an arm, with what stands for the arm behind its port, in real time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_address import own_address
from serl_drivers.config import load_driver
from serl_launch.graph_session import GraphSession

pytestmark = pytest.mark.graph


def recorded(robot: str, episodes: int, folder: Path, **more: str) -> Any:
    """What comes of a person's episodes through the driver of an emulated arm."""
    from serl_interfaces.action import Record

    arguments = {
        "task": "pick_cube",
        "robot": robot,
        "hardware": "emulated",
        "learner": "false",
        "console": "false",
        "run_dir": str(folder / "run"),
        **more,
    }
    with GraphSession("real.launch.xml", arguments, name="test", log_dir=folder / "log") as session:
        session.switch_on()
        goal = Record.Goal(episodes=episodes, seed=0, path=str(folder / "picks.serl"))
        return session.run_action(Record, "record", goal, executable="actor", on_feedback=lambda _: None)


@pytest.mark.timeout(240)
def test_a_person_leads_episodes_through_the_driver_of_a_real_arm(ros_domain: int, tmp_path: Path) -> None:
    result = recorded("so101", 3, tmp_path)
    assert result.success, result.message
    assert (result.episodes, result.path) == (3, str(tmp_path / "picks.serl"))
    assert 15 < result.transitions < 150
    assert result.attempts <= 6, "an unsteady hand succeeds nearly always"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("robot", ["piper", "trossen", "fr3"])
def test_a_person_leads_episodes_through_a_vendors_client_at_its_emulator(
    ros_domain: int, tmp_path: Path, robot: str
) -> None:
    emulator = load_driver(f"{robot}_emulated").emulator
    assert emulator is not None
    if emulator.missing:
        pytest.skip(emulator.missing)
    address = own_address()
    result = recorded(robot, 2, tmp_path, **({"port": address} if emulator.command else {}))
    assert result.success, result.message
    assert result.episodes == 2
    assert 10 < result.transitions < 100
