# SPDX-License-Identifier: Apache-2.0
"""What a program does before it computes with JAX: keep what is compiled on the disk, see that JAX has a device."""

from __future__ import annotations

import os
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


def check_backend() -> None:
    """Raise ValueError, in one line, unless JAX has something to compute on."""
    try:
        jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter for cuda where there is none
        reason = " ".join(str(error).split())[:200] or "a backend that it knows does not start"
        raise ValueError(
            f"JAX finds nothing to compute on ({reason}); JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}: "
            "unset it, or name what there is, as cpu"
        ) from error
