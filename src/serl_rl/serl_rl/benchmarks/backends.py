# SPDX-License-Identifier: Apache-2.0
"""How fast PyTorch is beside JAX on this machine, and JAX on a mesh beside itself: by turns on the same minibatches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, Literal, NamedTuple

import jax

from serl_rl.backends import create_agent
from serl_rl.benchmarks.learning import REFERENCE, random_batch
from serl_rl.benchmarks.vision import EDGE, cached_spec, pixel_spec
from serl_rl.config import EncoderConfig, LearningConfig, SACConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.devices import make_mesh, on_mesh
from serl_rl.spec import ArraySpec, TransitionSpec

Case = Literal["reference", "cached", "pixels"]


class Ratio(NamedTuple):
    """Updates per second of what is measured over those of JAX on one device."""

    wall: float
    """Ratio by the clock, median of the windows."""
    cpu: float
    """Ratio by the time of all threads, which hardly depends on what else the machine does."""
    windows: tuple[float, ...]
    """Ratios by the clock, one for each window."""


def torch_ratio(case: Case, computing: TorchConfig, *, windows: int = 5, seconds: float = 4.0) -> Ratio:
    """Measure both by turns.

    Args:
        case: state SAC as SERL runs it; from cached features of the small encoder; from pictures with that one trained.
        computing: settings of PyTorch.
        windows: turns of each.
        seconds: of a turn.

    PyTorch takes one core from then on, as in the learner; JAX does where `XLA_FLAGS` says so.

    Raises:
        BackendError: PyTorch is not installed.
    """
    spec, config, encoder, shape = _case(case)
    batch = random_batch(spec, shape)
    first: Any = create_agent(0, spec, config, encoder)
    second: Any = create_agent(0, spec, replace(config, backend="torch", torch=computing), encoder)
    from serl_rl.torch.computing.device import use_one_core  # PyTorch is there, or the line above has said so

    use_one_core()
    return _by_turns(first, second.with_arrays(first.arrays()), batch, windows, seconds)


def sharded_ratio(case: Case, *, windows: int = 5, seconds: float = 4.0) -> Ratio:
    """Measure by turns what several devices cost: an agent on a mesh of one device beside one without a mesh.

    Args:
        case: as for `torch_ratio`.
        windows: turns of each.
        seconds: of a turn.
    """
    spec, config, encoder, shape = _case(case)
    first, second = (create_agent(0, spec, config, encoder) for _ in range(2))
    mesh = make_mesh(jax.local_devices()[:1], config.split)
    return _by_turns(first, on_mesh(second, mesh), random_batch(spec, shape), windows, seconds)


def _by_turns(first: Any, second: Any, batch: dict[str, Any], windows: int, seconds: float) -> Ratio:
    """The second agent's updates per second over those of the first, which is one of JAX."""
    agents = {"first": first, "second": second}

    def update(name: str) -> None:
        agents[name], info = agents[name].update(batch)
        float(info["critic_loss"])
        jax.block_until_ready(jax.tree.leaves(agents[name]))  # what is of PyTorch has none

    for name in agents:
        for _ in range(2):
            update(name)  # compiles
    turns = [{name: _turn(partial(update, name), seconds) for name in agents} for _ in range(windows)]
    walls = tuple(turn["first"][0] / turn["second"][0] for turn in turns)
    return Ratio(median(walls), median(turn["first"][1] / turn["second"][1] for turn in turns), walls)


def _turn(call: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Time by the clock and of all threads that a call takes [s]."""
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < start + seconds:
        call()
        count += 1
    return (time.perf_counter() - start) / count, (time.process_time() - cpu) / count


def _case(case: Case) -> tuple[TransitionSpec, LearningConfig, Encoder | None, tuple[int, int, int]]:
    wide = SACConfig(hidden_sizes=(256, 256))
    match case:
        case "reference":
            spec = TransitionSpec({"state": ArraySpec((10,), "float32")}, 4)
            return spec, LearningConfig(sac=REFERENCE), None, (1, 8, 256)
        case "cached":
            spec = cached_spec(Encoder.random("small", 0).feature_shape(EDGE, EDGE))
            return spec, LearningConfig(sac=wide), None, (8, 1, 64)
        case "pixels":
            vision = VisionConfig(encoder=EncoderConfig(kind="small", frozen=False, cached=False))
            return pixel_spec(), LearningConfig(sac=wide, vision=vision), Encoder.random("small", 0), (1, 1, 64)
