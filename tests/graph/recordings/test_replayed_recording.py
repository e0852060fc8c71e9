# SPDX-License-Identifier: Apache-2.0
"""What was recorded in the simulated graph, replayed there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from serl_recording.registry import open_recording

pytestmark = pytest.mark.graph

SERL = (sys.executable, "-m", "serl_cli")


def test_a_recording_is_replayed_through_the_safety_filter(processes: Any, tmp_path: Path) -> None:
    file = tmp_path / "two.serl"
    recording = processes.start(*SERL, "record", "pick_cube", "--episodes", "2", "--seed", "5", "--out", str(file))
    assert recording.wait(90.0) == 0, recording.output()
    recorded = list(open_recording(file).episodes())
    replaying = processes.start(*SERL, "replay", str(file), "pick_cube", "--json")
    assert replaying.wait(90.0) == 0, replaying.output()
    output = replaying.output()
    outcomes = json.loads(output[output.index("[\n") :])
    assert [each["number"] for each in outcomes] == [each.number for each in recorded]
    for outcome, episode in zip(outcomes, recorded, strict=True):
        assert outcome["recorded"] == outcome["replayed"] == len(episode)
        assert outcome["recorded_success"] and outcome["replayed_success"] and outcome["same_start"]
        assert outcome["path_max_m"] < 1e-6
        assert outcome["changed"] == outcome["led"] == 0
