# SPDX-License-Identifier: Apache-2.0
"""The graph around the real driver of an arm, with an emulated one at its serial port, in real time."""

from __future__ import annotations

from pathlib import Path

import pytest
from serl_launch.graph_session import GraphSession

pytestmark = pytest.mark.graph


@pytest.mark.timeout(240)
def test_a_person_leads_episodes_through_the_driver_of_a_real_arm(ros_domain: int, tmp_path: Path) -> None:
    from serl_interfaces.action import Record

    arguments = {
        "task": "pick_cube",
        "robot": "so101",
        "hardware": "emulated",
        "learner": "false",
        "console": "false",
        "run_dir": str(tmp_path / "run"),
    }
    with GraphSession("real.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        goal = Record.Goal(episodes=3, seed=0, path=str(tmp_path / "picks.serl"))
        result = session.run_action(Record, "record", goal, executable="actor", on_feedback=lambda _: None)
    assert result.success, result.message
    assert (result.episodes, result.path) == (3, str(tmp_path / "picks.serl"))
    assert 15 < result.transitions < 150
    assert result.attempts <= 6, "an unsteady hand succeeds nearly always"
