# SPDX-License-Identifier: Apache-2.0
"""Benchmark of what seeing costs in each environment step: to render and to encode, in a process of one thread."""

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement

TASK = "pick_cube_vision"
VIEWS = 2
STEPS = 1000
WARM_UP = 50


def capture_ms(bench: Bench) -> Measurement:
    """Milliseconds to render and encode a frame of each of two cameras, the median of many steps."""
    # One thread for XLA, as in the actor; it is read when JAX is imported, which this process may have done already.
    environment = {**os.environ, "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    command = [sys.executable, "-m", "serl_bench.library.capture"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise CommandError("the cameras could not be captured", details=run.stderr.splitlines()[-5:])
    rendering, encoding = (np.array(times) for times in json.loads(run.stdout.splitlines()[-1]))
    total = rendering + encoding
    parts = {"render": statistics.median(rendering), "encode": statistics.median(encoding)}
    spread = (
        f"render {parts['render']:.2f}, encode {parts['encode']:.2f}; "
        f"fastest {total.min():.2f}, p95 {np.percentile(total, 95):.2f} of {STEPS} steps"
    )
    return Measurement(float(np.median(total)), spread, parts)


def measure() -> tuple[list[float], list[float]]:
    """Times of rendering and of encoding [ms] in each of `STEPS` environment steps with random actions."""
    from serl_config.resources import find
    from serl_rl.config import EncoderConfig
    from serl_rl.encoders.loading import load_encoder
    from serl_rl.jax.encoders.frames import FrameEncoder
    from serl_sim.envs import TaskEnv

    from serl_tasks import get_task

    task = get_task(TASK)
    env = TaskEnv("pick_cube")  # the same world, seen by nobody: frames are captured here
    encoder = FrameEncoder(load_encoder(EncoderConfig(), list(task.cameras), find, world=task.world), VIEWS)
    env.action_space.seed(0)
    env.reset(seed=0)
    rendering, encoding = [], []
    for step in range(STEPS + WARM_UP):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
        started = time.perf_counter()
        frames = {
            name: view.apply(env.world.render(name, *env.world.picture_size(name)))
            for name, view in task.cameras.items()
        }
        rendered = time.perf_counter()
        encoder.encode(frames)
        encoded = time.perf_counter()
        if step >= WARM_UP:
            rendering.append(1e3 * (rendered - started))
            encoding.append(1e3 * (encoded - rendered))
    env.close()
    return rendering, encoding


if __name__ == "__main__":
    print(json.dumps(measure()))
