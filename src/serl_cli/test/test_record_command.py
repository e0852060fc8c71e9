# SPDX-License-Identifier: Apache-2.0
"""What ``./serl record`` says while it records."""

import shutil
from types import SimpleNamespace

import pytest

pytest.importorskip("serl_launch.graph_session", reason="the workspace is not built")

from serl_cli.work.record_demonstrations import needed_room


def test_the_size_in_the_end_is_told_and_a_disk_that_is_too_small(tmp_path, monkeypatch):
    path = tmp_path / "a.serl"
    assert needed_room(path, 1, 20) == ""
    path.with_name("a.serl.part").write_bytes(bytes(2_000_000))
    assert needed_room(path, 0, 20) == ""
    assert needed_room(path, 4, 20) == "; about 10.0 MB in the end"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    assert needed_room(path, 4, 20) == "; about 10.0 MB in the end, and the disk has room for 5 MB more"
