# SPDX-License-Identifier: Apache-2.0
"""LeRobot's calibration files, good and bad."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serl_config.files import FileError
from serl_feetech.calibration import CalibrationError, ServoCalibration, read_calibration, write_calibration

# as LeRobot writes it: json.dump(..., indent=4) of a dict by motor
LEROBOT = """{
    "shoulder_pan": {
        "id": 1,
        "drive_mode": 0,
        "homing_offset": -1470,
        "range_min": 758,
        "range_max": 3292
    },
    "gripper": {
        "id": 6,
        "drive_mode": 1,
        "homing_offset": 12,
        "range_min": 2011,
        "range_max": 3305
    }
}"""


def test_a_file_of_lerobot_is_read_and_written_back_as_it_was(tmp_path):
    path = tmp_path / "my_leader.json"
    path.write_text(LEROBOT)
    calibration = read_calibration(path)
    assert calibration["gripper"] == ServoCalibration(6, 1, 12, 2011, 3305)
    assert list(calibration) == ["shoulder_pan", "gripper"]
    write_calibration(path, calibration)
    assert path.read_text().strip() == LEROBOT


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": 1}, "shoulder_pan and gripper have the same id 1"),
        ({"id": 254}, "id: expected an integer from 0 to 253, found 254"),
        ({"id": True}, "id: expected an integer"),
        ({"homing_offset": 0.5}, "homing_offset"),
        ({"range_min": 3305}, "expected range_min below range_max"),
        ({"drive_mode": 2}, "drive_mode"),
        ({"colour": "blue"}, "expected id, drive_mode"),
    ],
)
def test_what_cannot_be_meant_is_named(tmp_path, change, named):
    content = json.loads(LEROBOT)
    content["gripper"] |= change
    path = tmp_path / "my_leader.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=named) as error:
        read_calibration(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["grip\nper", "", "g" * 1000, "\x1b[2J"])
def test_names_that_nobody_can_read_are_refused_in_one_line(tmp_path, name):
    content = json.loads(LEROBOT)
    content[name] = content.pop("gripper")
    path = tmp_path / "my_leader.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match="can be printed") as error:
        read_calibration(path)
    assert str(error.value).isprintable()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_other_file_is_one_line(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises((CalibrationError, FileError)) as error:
        read_calibration(path)
    assert "\n" not in str(error.value)
