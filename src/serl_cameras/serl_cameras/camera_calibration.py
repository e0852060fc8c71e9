# SPDX-License-Identifier: Apache-2.0
"""Calibration files as ROS 2's camera_calibration writes them."""

from array import array
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from sensor_msgs.msg import CameraInfo
from serl_config.schema import ConfigError, Field, config, load_yaml, model_validator

_COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}


@config(kw_only=True)
class Matrix:
    """A matrix, row by row."""

    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    data: tuple[float, ...]

    @model_validator(mode="after")
    def _is_complete(self) -> "Matrix":
        if len(self.data) != self.rows * self.cols:
            raise ValueError(
                f"expected {self.rows * self.cols} numbers ({self.rows}x{self.cols}), found {len(self.data)}"
            )
        return self


@config(kw_only=True)
class Calibration:
    """One file."""

    image_width: int = Field(ge=1, description="[pixels]")
    image_height: int = Field(ge=1, description="[pixels]")
    camera_name: str = Field(default="", description="of the camera that was calibrated")
    camera_matrix: Matrix
    distortion_model: str
    distortion_coefficients: Matrix
    rectification_matrix: Matrix
    projection_matrix: Matrix

    @model_validator(mode="after")
    def _fits(self) -> "Calibration":
        for name, shape in (("camera_matrix", (3, 3)), ("rectification_matrix", (3, 3)), ("projection_matrix", (3, 4))):
            matrix: Matrix = getattr(self, name)
            if (matrix.rows, matrix.cols) != shape:
                raise ValueError(f"{name}: expected {shape[0]}x{shape[1]}, found {matrix.rows}x{matrix.cols}")
        if self.distortion_model not in _COEFFICIENTS:
            raise ValueError(f"distortion_model: expected {', '.join(_COEFFICIENTS)}, found {self.distortion_model!r}")
        expected, found = _COEFFICIENTS[self.distortion_model], len(self.distortion_coefficients.data)
        if found != expected:
            raise ValueError(f"distortion_coefficients: expected {expected} numbers, found {found}")
        return self


def load_calibration(url: str, frame: str) -> CameraInfo:
    """Read a calibration file.

    Args:
        url: `file:///folder/file.yaml`, or a path.
        frame: name of the optical frame.

    Raises:
        ConfigError: another kind of URL, or a file that cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("", "file") or parts.netloc:
        raise ConfigError(f"camera_info_url: expected file:///folder/file.yaml or a path, found {url!r}")
    path = Path(unquote(parts.path) if parts.scheme else url).expanduser()
    calibration = load_yaml(path, Calibration)
    message = CameraInfo(
        width=calibration.image_width,
        height=calibration.image_height,
        distortion_model=calibration.distortion_model,
    )
    message.header.frame_id = frame
    message.d = array("d", calibration.distortion_coefficients.data)
    message.k = np.array(calibration.camera_matrix.data)
    message.r = np.array(calibration.rectification_matrix.data)
    message.p = np.array(calibration.projection_matrix.data)
    return message
