# SPDX-License-Identifier: Apache-2.0
"""How fast seeing is on this machine: functions that measure one number each.

For one core, run them in a process with `XLA_FLAGS` `--xla_cpu_multi_thread_eigen=false`, as actor and learner are.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from serl_rl.backends import create_agent
from serl_rl.benchmarks.learning import median_seconds, random_batch
from serl_rl.config import EncoderConfig, EncoderKind, LearningConfig, SACConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.spec import ArraySpec, TransitionSpec

CAMERAS = ("front", "wrist")
EDGE = 128  # of pictures [pixels]
VIEWS = 2


class UpdateTimes(NamedTuple):
    """What the updates of one environment step take."""

    wall_ms: float
    """Median of the calls."""
    cpu_ms: float
    """Time of all threads, mean of the calls; hardly depends on what else the machine does."""


def cached_update_times(
    kind: str,
    *,
    batch_size: int = 64,
    hidden_sizes: tuple[int, ...] = (256, 256),
    utd_ratio: int = 1,
    seconds: float = 5.0,
) -> UpdateTimes:
    """`utd_ratio` critic updates and one actor update of SAC on cached features of two cameras, eight steps in a call.

    Args:
        kind: of the encoder whose features of 128 x 128 pixels these are.
        batch_size: transitions in a minibatch.
        hidden_sizes: of actor and two critics.
        utd_ratio: critic updates for each actor update.
        seconds: to measure.
    """
    spec = cached_spec(Encoder.random(kind, 0).feature_shape(EDGE, EDGE))
    config = LearningConfig(sac=SACConfig(hidden_sizes=hidden_sizes))
    return _update_times(spec, config, None, (8, utd_ratio, batch_size), seconds)


def pixel_update_times(kind: EncoderKind, *, frozen: bool, batch_size: int = 64, seconds: float = 10.0) -> UpdateTimes:
    """One critic and one actor update of SAC on pictures of two cameras, 128 x 128, two critics of 2 x 256.

    Args:
        kind: of encoder.
        frozen: run the encoder anew in each update, but do not train it.
        batch_size: transitions in a minibatch.
        seconds: to measure.
    """
    spec = pixel_spec()
    vision = VisionConfig(encoder=EncoderConfig(kind=kind, frozen=frozen, cached=False))
    config = LearningConfig(sac=SACConfig(hidden_sizes=(256, 256)), vision=vision)
    return _update_times(spec, config, Encoder.random(kind, 0), (1, 1, batch_size), seconds)


def cached_spec(feature_shape: tuple[int, int, int]) -> TransitionSpec:
    """Transitions with cached features of a shape (h, w, c), of two cameras."""
    return TransitionSpec(_entries((VIEWS, *feature_shape), "float16"), 4, encoder="random")


def pixel_spec() -> TransitionSpec:
    """Transitions with pictures of two cameras."""
    return TransitionSpec(_entries((EDGE, EDGE, 3), "uint8"), 4)


def _entries(shape: tuple[int, ...], dtype: str) -> dict[str, ArraySpec]:
    return dict.fromkeys(CAMERAS, ArraySpec(shape, dtype)) | {"state": ArraySpec((8,), "float32")}


def _update_times(
    spec: TransitionSpec,
    config: LearningConfig,
    encoder: Encoder | None,
    shape: tuple[int, int, int],
    seconds: float,
) -> UpdateTimes:
    agent = create_agent(0, spec, config, encoder)
    batch = random_batch(spec, shape)
    cpu_seconds: list[float] = []

    def update() -> None:
        nonlocal agent
        start = time.process_time()
        agent, _ = agent.update(batch)
        int(agent.updates)  # waits for it
        cpu_seconds.append(time.process_time() - start)

    wall = median_seconds(update, seconds)
    warm = cpu_seconds[2:]  # as in median_seconds, the first two calls compile
    return UpdateTimes(1e3 * wall / shape[0], 1e3 * sum(warm) / len(warm) / shape[0])
