# SPDX-License-Identifier: Apache-2.0
"""Without the optional packages one line says how they come, and nothing is left behind."""

import sys

import pytest
from serl_recording.episode import RecordingError
from serl_recording.registry import create_recording


@pytest.mark.parametrize(
    ("format_", "package"), [("lerobot", "pyarrow"), ("rlds", "google_crc32c"), ("mcap", "rosbags.typesys")]
)
def test_a_format_whose_packages_are_missing_says_how_they_come(tmp_path, monkeypatch, make_spec, format_, package):
    monkeypatch.setitem(sys.modules, package, None)
    from serl_recording.formats.bag import messages

    messages._types.cache_clear()
    with pytest.raises(
        RecordingError, match=rf"needs the package {package.partition('.')[0]}: ./serl setup recordings"
    ):
        create_recording(tmp_path / "set", format_, make_spec())
    assert list(tmp_path.iterdir()) == []


def test_without_the_viewers_package_nothing_is_left_behind(tmp_path, monkeypatch, make_spec):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RecordingError, match=r"needs the package rerun: \./serl setup rerun"):
        create_recording(tmp_path / "a.rrd", "rerun", make_spec())
    assert list(tmp_path.iterdir()) == []
