# SPDX-License-Identifier: Apache-2.0
"""Where a camera is, on a link of a robot or in its surroundings."""

import numpy as np
from serl_config.schema import Field, config, model_validator

from serl_robots.model.pose import Pose, Vector3, quaternion_from_matrix


@config(kw_only=True)
class CameraMount:
    """A pinhole camera, fixed to a frame."""

    parent: str = Field(description="link of the robot that carries it, or world")
    position: Vector3 = Field(description="in the parent's frame [m]")
    target: Vector3 = Field(description="point in the middle of the image, in the parent's frame [m]")
    up: Vector3 = Field(description="direction towards the upper edge of the image, in the parent's frame")
    fovy_deg: float = Field(gt=1.0, lt=170.0, description="angle from the upper to the lower edge of the image")

    @model_validator(mode="after")
    def _looks_somewhere(self) -> "CameraMount":
        if np.linalg.norm(np.cross(np.subtract(self.target, self.position), self.up)) < 1e-6:
            raise ValueError("expected a target away from the position, and an up that is not along the view")
        return self

    def optical_frame(self) -> Pose:
        """Pose in the parent's frame; z forward, x right, y down in the image (REP 103)."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, self.up)
        right = right / np.linalg.norm(right)
        down = np.cross(forward, right)
        return Pose(self.position, quaternion_from_matrix(np.column_stack((right, down, forward))))
