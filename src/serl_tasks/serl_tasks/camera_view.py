# SPDX-License-Identifier: Apache-2.0
"""What a policy sees of a camera's picture: a part of it, in a size of its own."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator


@config(kw_only=True)
class CameraView:
    """Crop and size of one camera's pictures in the observation."""

    size: tuple[int, int] = Field(default=(128, 128), description="width and height in the observation [pixels]")
    crop: tuple[float, float, float, float] | None = Field(
        default=None,
        description="left, top, width, height as parts of the picture, 0 to 1; none: the largest middle part that fits",
    )

    @model_validator(mode="after")
    def _is_inside(self) -> CameraView:
        if not all(8 <= edge <= 1024 for edge in self.size):
            raise ValueError(f"size: expected 8 to 1024 pixels each, found {list(self.size)}")
        if self.crop is not None:
            left, top, width, height = self.crop
            inside = min(left, top) >= 0.0 and min(width, height) > 0.0
            if not (inside and left + width <= 1.0 + 1e-6 and top + height <= 1.0 + 1e-6):
                raise ValueError(f"crop: expected a part of the picture, 0 to 1, found {list(self.crop)}")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (H, W, 3) of the result."""
        return self.size[1], self.size[0], 3

    def picture_size(self, largest: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Width and height of the picture that somebody should draw who can draw it in any size [pixels].

        It has the proportions of `size`, and what is cropped out of it is not enlarged.

        Args:
            largest: width and height that can be drawn [pixels].
            scale: how many pixels in a row shall become one in the observation.
        """
        if self.crop is not None:
            scale /= min(self.crop[2], self.crop[3])
        scale = min(scale, largest[0] / self.size[0], largest[1] / self.size[1])
        return round(scale * self.size[0]), round(scale * self.size[1])

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The part that is seen of a picture of `width` x `height`: left, top, width, height [pixels], never empty."""
        if self.crop is None:
            scale = min(width / self.size[0], height / self.size[1])
            part = (max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale)))
            return (width - part[0]) // 2, (height - part[1]) // 2, *part
        left, top = min(round(self.crop[0] * width), width - 1), min(round(self.crop[1] * height), height - 1)
        right, bottom = round((self.crop[0] + self.crop[2]) * width), round((self.crop[1] + self.crop[3]) * height)
        return left, top, max(1, min(right, width) - left), max(1, min(bottom, height) - top)

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut out and resize an RGB picture (H, W, 3); one that fits already is returned as it is, without a copy.

        Raises:
            ValueError: not uint8 with three channels.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"picture: expected uint8 (H, W, 3), found {picture.dtype} {picture.shape}")
        left, top, width, height = self.box(picture.shape[1], picture.shape[0])
        part = picture[top : top + height, left : left + width]
        if part.shape == self.shape:
            return part
        shrinks = width > self.size[0] or height > self.size[1]
        return cv2.resize(part, self.size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[return-value]
