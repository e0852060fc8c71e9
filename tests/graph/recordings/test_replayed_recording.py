# SPDX-License-Identifier: Apache-2.0
"""What was recorded in the simulated graph, replayed there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_recording.registry import open_recording

pytestmark = pytest.mark.graph

SERL = (sys.executable, "-m", "serl_cli")


def test_a_recording_is_replayed_through_the_safety_filter(processes: Any, tmp_path: Path) -> None:
    file = tmp_path / "two.serl"
    recording = processes.start(*SERL, "record", "pick_cube", "--episodes", "2", "--seed", "5", "--out", str(file))
    assert recording.wait(90.0) == 0, recording.output()
    reader = open_recording(file)
    recorded = list(reader.episodes())
    for episode in recorded:  # by the clock of the world, which waits for each command
        assert episode.stamped
        np.testing.assert_array_equal(np.diff(episode.stamp), round(1e9 / reader.spec.rate))
    assert recorded[0].stamp[-1] < recorded[1].stamp[0], "the clock goes on from one episode to the next"
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
