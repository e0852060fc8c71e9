# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest
from serl_rl.jax import compile_cache

PROGRAM = """
import sys
from pathlib import Path
from serl_rl.jax import compile_cache
compile_cache.enable(Path(sys.argv[1]))
import jax
from serl_rl.config import SACConfig
from serl_rl.storage.chunk import TransitionSpec
from serl_rl.replay.buffer import empty_batch
from serl_rl.jax.sac import SACAgent
found = {"hit": 0, "miss": 0}
def count(event, **_):
    for name in found:
        found[name] += event == f"/jax/compilation_cache/cache_{name}{'s' if name == 'hit' else 'es'}"
jax.monitoring.register_event_listener(count)
spec = TransitionSpec({"state": ((3,), "float32")}, 2)
agent = SACAgent.create(0, spec, SACConfig(hidden_sizes=(4,)))
agent, _ = agent.update(empty_batch(spec, (1, 1, 4)))
agent.policy_snapshot()
print(found["hit"], found["miss"])
"""


def start(directory: str) -> tuple[int, int]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, directory], capture_output=True, text=True, check=True)
    hits, misses = map(int, run.stdout.split())
    return hits, misses


def test_a_second_start_compiles_nothing(tmp_path):
    directory = tmp_path / "cache"
    hits, misses = start(str(directory))
    assert hits == 0
    assert misses >= 2
    assert start(str(directory)) == (misses, 0)


@pytest.mark.parametrize("place", ["/proc/cache", "file/cache", "file"])
def test_a_directory_that_cannot_be_used_raises(tmp_path, place):
    (tmp_path / "file").touch()
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(OSError):
        compile_cache.enable(tmp_path / place)
    assert jax.config.jax_compilation_cache_dir == before


@pytest.mark.parametrize("platform", ["nonsense", "cuda" if jax.default_backend() == "cpu" else "tpu"])
def test_a_device_that_is_not_there_is_told_by_the_variable_that_asks_for_it(platform: str) -> None:
    code = "from serl_rl.jax import compile_cache\ntry: compile_cache.check_backend()\nexcept ValueError as e: print(e)"
    environment = {**os.environ, "JAX_PLATFORMS": platform}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    (line,) = run.stdout.splitlines()
    assert f"JAX_PLATFORMS is {platform!r}: unset it" in line
