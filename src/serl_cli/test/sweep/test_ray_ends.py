# SPDX-License-Identifier: Apache-2.0
"""What is said while Ray ends trials; needs no Ray."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest
from serl_cli.sweep import ray_pool
from serl_cli.sweep.ray_pool import RayPool


def test_it_says_for_what_it_waits_and_what_has_not_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = MagicMock()
    monkeypatch.setattr(ray_pool, "optional_module", lambda *_, **__: ray)
    pool = RayPool("auto", tmp_path)
    pool.submit(max, 1, 2)
    ray.wait.side_effect = lambda *_, **__: (print("ended"), ([], [object()]))[1]
    pool.shutdown(cancel_futures=True)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "waiting for 1 trials that run by Ray to end, at most 60 s",
        "1 of them have not ended; Ray is left",
    ]
    ray.wait.assert_called_once()
