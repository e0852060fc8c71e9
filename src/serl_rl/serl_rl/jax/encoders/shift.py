# SPDX-License-Identifier: Apache-2.0
"""Random shifts of pictures."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def random_shift(key: jax.Array, images: jax.Array, shift: int) -> jax.Array:
    """Each image (B, H, W, C) moved by its own random -shift to shift pixels along each axis, its edge repeated.

    Random crops of the padded image (Kostrikov et al., DrQ, arXiv 2004.13649).
    """
    batch, height, width, _ = images.shape
    dy, dx = jax.random.randint(key, (2, batch, 1), -shift, shift + 1)
    rows = jnp.clip(jnp.arange(height) + dy, 0, height - 1)
    columns = jnp.clip(jnp.arange(width) + dx, 0, width - 1)
    return jax.vmap(lambda image, row, column: image[row][:, column])(images, rows, columns)
