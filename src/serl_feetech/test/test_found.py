# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from serl_feetech.calibration import CalibrationError
from serl_feetech.errors import PortError
from serl_feetech.found import only_calibration, only_port

KINDS = ("robots/so101_follower", "robots/so100_follower")


def test_one_port_is_the_one_that_is_meant_and_of_two_somebody_has_to_say_which(tmp_path: Path) -> None:
    first = tmp_path / "usb-a"
    first.touch()
    assert only_port("port", tmp_path) == str(first)
    (tmp_path / "usb-b").touch()
    with pytest.raises(PortError, match=r"^port: say which .*usb-a, .*usb-b$"):
        only_port("port", tmp_path)


def test_one_calibration_is_the_one_that_is_meant_and_else_what_there_is_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"^calibration: .*none below .*lerobot-calibrate"):
        only_calibration("calibration", KINDS, tmp_path)
    for kind in (*KINDS, "robots/other_arm"):
        (tmp_path / kind).mkdir(parents=True)
    (tmp_path / "robots/other_arm/c.json").touch()
    mine = tmp_path / KINDS[0] / "a.json"
    mine.touch()
    assert only_calibration("calibration", KINDS, tmp_path) == mine
    (tmp_path / KINDS[1] / "b.json").touch()
    with pytest.raises(CalibrationError, match=r"b\.json, .*a\.json"):
        only_calibration("calibration", KINDS, tmp_path)
