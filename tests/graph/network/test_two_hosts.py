# SPDX-License-Identifier: Apache-2.0
"""An actor and a learner on two hosts with a bad network between them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from serl_bench.network.wan import run_over_network
from serl_bench.network.wide_area import why_not
from serl_config.resources import find


@pytest.fixture
def hosts() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.usefixtures("hosts", "ros_domain")
def test_a_slow_network_that_loses_packets_and_is_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    settings = yaml.safe_load(find("config/learning/rlpd_state.yaml").read_text())
    settings["sac"]["hidden_sizes"] = [490, 490]  # a policy of 1 MB
    settings |= {"batch_size": 16, "utd_ratio": 1, "training_starts": 8}
    learning = tmp_path / "large.yaml"
    learning.write_text(yaml.safe_dump(settings))
    run = run_over_network(tmp_path, cuts=1, cut_seconds=8.0, between=5.0, learning=str(learning))
    assert run.lost == 0
    assert run.acknowledged == run.steps // 8 * 8  # all that was handed over, in the end
    assert run.longest_backlog >= 64  # it was cut: there were 80 steps
    assert run.policies > 1
