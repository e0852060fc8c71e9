# SPDX-License-Identifier: Apache-2.0
"""Frozen encoders run once for every frame of a camera, when the frame arrives; a backend computes the features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder

_BLOCK = 16  # pictures that are encoded at a time where many wait

Maps = Callable[[NDArray[np.uint8]], NDArray[np.float16]]
"""Features float16 (N, h, w, c) of pictures (N, H, W, 3)."""


class FrameViews:
    """Encodes the frames of all cameras when they arrive, each as it is and shifted at random.

    The random shifts are those of DrQ (arXiv 2004.13649): up to `shift` pixels along each axis, the edge repeated.
    """

    def __init__(self, encoder: Encoder, maps: Maps, views: int = 2, shift: int = 4, seed: int = 0) -> None:
        """Prepare `views` feature maps of each picture.

        Args:
            encoder: whose features they are.
            maps: computes them.
            views: of each picture.
            shift: the largest along each axis [pixels].
            seed: of the shifts.

        Raises:
            ValueError: less than one view, or a negative shift.
        """
        if views < 1 or shift < 0:
            raise ValueError(f"expected at least 1 view and a shift from 0, found {views} and {shift}")
        self.hash = encoder.hash
        self._encoder = encoder
        self._maps = maps
        self._views = views
        self._shift = shift
        self._rng = np.random.default_rng(seed)

    def reseeded(self, seed: int) -> Self:
        """A copy of the encoder, compiled as it is, whose random shifts are drawn from `seed`."""
        other = copy.copy(self)
        other._rng = np.random.default_rng(seed)
        return other

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (K, h, w, c) of the features of one picture of this size [pixels], K the views."""
        return (self._views, *self._encoder.feature_shape(height, width))

    def encode(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
        """Features float16 (K, h, w, c) of each picture (H, W, 3); view 0 is that of the picture as it is.

        Raises:
            ValueError: a picture is not uint8 with three channels.
        """
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for name, picture in pictures.items():
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"{name}: expected a picture uint8 (H, W, 3), found {picture.dtype} {picture.shape}")
            by_shape.setdefault(picture.shape, []).append(name)
        features: dict[str, NDArray[np.float16]] = {}
        for names in by_shape.values():
            maps = self._maps(self._stack([pictures[name] for name in names]))
            per_camera = maps.reshape(len(names), self._views, *maps.shape[1:])
            features |= dict(zip(names, per_camera, strict=True))
        return features

    def encode_rows(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
        """Features float16 (n, K, h, w, c) of n pictures (n, H, W, 3) of each camera, many at a time.

        They are those that `encode` would make one after the other, with other random shifts.

        Raises:
            ValueError: as `encode`.
        """
        features = {}
        for name, rows in pictures.items():
            if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[3] != 3:
                raise ValueError(f"{name}: expected pictures uint8 (n, H, W, 3), found {rows.dtype} {rows.shape}")
            blocks = [self._encode_block(rows[first : first + _BLOCK]) for first in range(0, len(rows), _BLOCK)]
            features[name] = np.concatenate(blocks)
        return features

    def _encode_block(self, rows: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Features (n, K, h, w, c) of at most `_BLOCK` pictures (n, H, W, 3)."""
        views = self._stack(list(rows))
        missing = np.zeros(((_BLOCK - len(rows)) * self._views, *views.shape[1:]), np.uint8)  # compiled for one size
        maps = self._maps(np.concatenate([views, missing]))[: len(views)]
        return maps.reshape(len(rows), self._views, *maps.shape[1:])

    def _stack(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """All views of all pictures, uint8 (N K, H, W, 3)."""
        height, width, _ = pictures[0].shape
        if self._shift >= min(height, width):
            raise ValueError(f"expected pictures larger than the shift of {self._shift} pixels, found {height, width}")
        stack = np.empty((len(pictures), self._views, height, width, 3), np.uint8)
        shifts = self._rng.integers(-self._shift, self._shift + 1, (len(pictures), self._views - 1, 2)).tolist()
        for picture, views, offsets in zip(pictures, stack, shifts, strict=True):
            views[0] = picture
            for view, (down, right) in zip(views[1:], offsets, strict=True):
                _shift_into(view, picture, down, right)
        return stack.reshape(-1, height, width, 3)


def _shift_into(view: NDArray[np.uint8], picture: NDArray[np.uint8], down: int, right: int) -> None:
    """Write the picture, moved by pixels and its edge repeated where nothing is left, into `view`."""
    height, width, _ = picture.shape
    moved = picture[np.clip(np.arange(-down, height - down), 0, height - 1)]
    first, end = max(right, 0), width + min(right, 0)
    view[:, first:end] = moved[:, first - right : end - right]
    view[:, :first] = moved[:, :1]
    view[:, end:] = moved[:, -1:]
