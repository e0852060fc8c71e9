# SPDX-License-Identifier: Apache-2.0
"""A disk that gets full while a recording is written: one line, and every episode that was complete is there."""

import importlib.util
import resource

import pytest
from serl_recording.episode import RecordingError
from serl_recording.registry import create_recording, open_recording

NEEDS = {"serl": "numpy", "lerobot": "av", "rlds": "google_crc32c", "mcap": "rosbags"}


@pytest.mark.parametrize("name", NEEDS)
def test_complete_episodes_outlive_a_full_disk(tmp_path, make_spec, make_episode, name):
    """A limit of the size of files is noticed as a full disk is: a write fails, or is not done to its end."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip("./serl setup recordings")
    spec = make_spec(cameras=1)
    path = tmp_path / "recording.serl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    appended = 0
    try:
        with pytest.raises(RecordingError) as caught, create_recording(path, name, spec) as writer:
            for number in range(1000):
                writer.append(make_episode(spec, number, steps=5 + 4 * number))
                appended += 1
                if appended == 3:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert appended >= 3
    assert str(path.name) in str(caught.value)
    assert "\n" not in str(caught.value)
    part = path.with_name(f"{path.name}.part")
    found = list(open_recording(part if part.exists() else path).episodes(lambda _: None))
    assert [episode.number for episode in found] == list(range(appended))
