# SPDX-License-Identifier: Apache-2.0
"""Backends in a node: one core, and programs that are compiled once on a machine."""

from __future__ import annotations

import os
from pathlib import Path

from rclpy.node import Node
from serl_rl.backends import check_torch
from serl_ros.parameters import declare


def declare_compile_cache(node: Node) -> str:
    """Declare the parameter `compile_cache`; returns the directory, empty for none."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    default = str(Path(base) / "serl-ros2" / "xla")
    return declare(node, "compile_cache", default, "Directory of compiled programs; empty keeps none.")


def prepare_backend(node: Node, cache: str, backend: str) -> None:
    """Import what computes, `jax` or `torch`, for a node that shares the machine with others.

    Raises:
        ValueError: it is not installed, or finds nothing to compute on.
    """
    if backend == "jax":
        prepare(node, cache)
        return
    if cache:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache).with_name("inductor")))
    use_one_core(backend)


def use_one_core(backend: str) -> None:
    """Let what computes do so with one thread: the other cores are the graph's. To be called before JAX is imported.

    Raises:
        ValueError: the backend is not installed.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if backend == "torch":
        check_torch()
        from serl_rl.torch.computing.device import use_one_core as with_one_thread

        with_one_thread()


def prepare(node: Node, cache: str) -> None:
    """Import JAX for a node that shares the machine with others. To be called before anything else imports it.

    A cache that cannot be used costs time at every start, and is no reason not to start.

    Raises:
        ValueError: JAX finds nothing to compute on.
    """
    use_one_core("jax")
    from serl_rl.jax import compile_cache

    compile_cache.check_backend()
    if cache:
        try:
            compile_cache.enable(Path(cache))
        except OSError as error:
            node.get_logger().warning(
                f"parameter 'compile_cache': {cache} cannot be used ({error.strerror}), so every start compiles again:"
                " name a directory that can be written to, or none"
            )
