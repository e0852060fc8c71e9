# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import yaml
from serl_cameras.camera_calibration import load_calibration
from serl_config.schema import ConfigError

CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [600.5, 0, 320.1, 0, 601.2, 240.7, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [598, 0, 321, 0, 0, 599, 241, 0, 0, 0, 1, 0]
"""


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_file_of_camera_calibration_is_read(tmp_path, prefix):
    path = tmp_path / "front camera.yaml"
    path.write_text(CALIBRATION)
    info = load_calibration(prefix + str(path).replace(" ", "%20" if prefix else " "), "front_color_optical_frame")
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")
    assert info.header.frame_id == "front_color_optical_frame"
    np.testing.assert_allclose(info.d, [0.1, -0.2, 0.001, 0.002, 0.0])
    np.testing.assert_allclose(np.reshape(info.k, (3, 3))[:2, 2], [320.1, 240.7])
    np.testing.assert_allclose(np.reshape(info.p, (3, 4))[:, 3], 0.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": [1, 2]}}, "expected 9 numbers"),
        ({"projection_matrix": {"rows": 1, "cols": 1, "data": [1]}}, "projection_matrix: expected 3x4, found 1x1"),
        ({"distortion_model": "fisheye"}, "distortion_model: expected plumb_bob"),
        ({"distortion_model": "equidistant"}, "distortion_coefficients: expected 4 numbers, found 5"),
        ({"image_width": 0}, "image_width"),
        ({"fov": 60}, "unknown key 'fov'"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path, changes, text):
    path = tmp_path / "front.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(CALIBRATION) | changes))
    with pytest.raises(ConfigError, match=text):
        load_calibration(str(path), "frame")


def test_only_files_are_read():
    with pytest.raises(ConfigError, match=r"expected file:///folder/file\.yaml or a path, found 'http://host/a\.yaml'"):
        load_calibration("http://host/a.yaml", "frame")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_calibration("file:///nowhere/a.yaml", "frame")
