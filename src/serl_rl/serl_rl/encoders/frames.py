# SPDX-License-Identifier: Apache-2.0
"""What an actor needs of a frozen encoder: features of every frame, when the frame arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class FrameEncoder(Protocol):
    """Encodes frames as they are and shifted at random. `serl_rl.backends.make_frame_encoder` makes one."""

    @property
    def hash(self) -> str:
        """`weights_hash` of the encoder, which tells its features from those of others."""

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (K, h, w, c) of the features of one picture of this size [pixels], K the views."""

    def encode(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
        """Features float16 (K, h, w, c) of each picture (H, W, 3); view 0 is that of the picture as it is.

        Raises:
            ValueError: a picture is not uint8 with three channels, or no larger than the shift.
        """

    def encode_rows(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
        """Features float16 (n, K, h, w, c) of n pictures (n, H, W, 3) of each camera, many at a time.

        They are those that `encode` would make one after the other, with other random shifts.

        Raises:
            ValueError: as `encode`.
        """

    def reseeded(self, seed: int) -> FrameEncoder:
        """A copy of the encoder whose random shifts are drawn from `seed`."""
