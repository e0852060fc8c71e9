# SPDX-License-Identifier: Apache-2.0
"""Keeps what JAX compiled on the disk, so that the next start of the same program does not compile again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax


def enable(directory: Path) -> None:
    """Use a directory as JAX's persistent compilation cache, for everything that is compiled from now on.

    Raises OSError if the directory cannot be created or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):  # JAX itself would warn at each of a hundred programs
        pass
    jax.config.update("jax_compilation_cache_dir", str(directory))
    # By default only what took a second to compile is kept; here dozens of small functions are what a start waits for.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
