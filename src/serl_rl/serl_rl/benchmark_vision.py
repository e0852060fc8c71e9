# SPDX-License-Identifier: Apache-2.0
"""How fast seeing is on this machine: functions that measure one number each.

For one core, run them in a process with `XLA_FLAGS` `--xla_cpu_multi_thread_eigen=false`, as actor and learner are.
"""

from __future__ import annotations

import numpy as np

from serl_rl.benchmark import median_seconds
from serl_rl.encoders import Encoder, FrameEncoder


def encode_ms(kind: str = "small", *, cameras: int = 2, views: int = 2, edge: int = 128, seconds: float = 2.0) -> float:
    """Milliseconds in which a frozen encoder makes the features of one frame of every camera.

    Args:
        kind: of encoder.
        cameras: whose frames are encoded in one call.
        views: of each frame.
        edge: of the frames [pixels].
        seconds: to measure.
    """
    rng = np.random.default_rng(0)
    frames = {f"camera_{index}": rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8) for index in range(cameras)}
    encoder = FrameEncoder(Encoder.random(kind, 0), views)
    return 1e3 * median_seconds(lambda: encoder.encode(frames), seconds)
