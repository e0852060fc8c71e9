# SPDX-License-Identifier: Apache-2.0
"""The benchmark of recording topics, for two seconds."""

from pathlib import Path

import pytest

pytest.importorskip("mcap", reason="./serl setup recordings")

try:
    from serl_bench.graph.raw_recording import measure
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)
from serl_bench.benchmark import Bench

pytestmark = [pytest.mark.graph, pytest.mark.slow]


def test_what_was_published_is_counted_in_the_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    found = measure(Bench((0,), tmp_path, lambda _: None), 2.0)
    assert found.details["published"] == {
        "/front/color/image_raw": 60,
        "/wrist/color/image_raw": 60,
        "/joint_states": 200,
    }
    missing = found.details["missing"]
    assert found.value == sum(missing.values())
    # Whether nothing is missing depends on what else runs here: the benchmark itself says that.
    assert all(0 <= missing[topic] < count / 2 for topic, count in found.details["published"].items())
