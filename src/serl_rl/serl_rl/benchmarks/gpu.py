# SPDX-License-Identifier: Apache-2.0
"""How fast both backends learn on the GPU of this machine, with each fast path of PyTorch on and off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax

from serl_rl.backends import check_torch, create_agent
from serl_rl.benchmarks.learning import median_seconds, random_batch
from serl_rl.benchmarks.vision import EDGE, cached_spec, pixel_spec
from serl_rl.config import EncoderConfig, EncoderKind, LearningConfig, SACConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.spec import TransitionSpec

BATCH = 256
CASES = ("cached", "small trained", "resnet10 frozen", "resnet10 trained")
WRITTEN = "torch"
PATHS: Mapping[str, TorchConfig] = {
    WRITTEN: TorchConfig(),
    "torch, compile": TorchConfig(compile=True),
    "torch, bf16": TorchConfig(precision="bfloat16"),
    "torch, cuda_graphs": TorchConfig(cuda_graphs=True),
    "torch, channels_last off": TorchConfig(channels_last=False),
    "torch, prefetch": TorchConfig(prefetch=True),
    "torch, all": TorchConfig(compile=True, precision="bfloat16", cuda_graphs=True, prefetch=True),
}
"""Settings of PyTorch that are compared: all off, each on by itself (channels_last, which is on, off), all on."""

# Dense peaks [FLOP/s] in float32 without tensor cores and in bfloat16, from the makers' data sheets.
_PEAKS: Mapping[str, tuple[float, float]] = {
    "H100 PCIe": (51.2e12, 756e12),
    "H100": (66.9e12, 989e12),
    "H200": (66.9e12, 989e12),
    "A100": (19.5e12, 312e12),
    "L4": (30.3e12, 121e12),
    "RTX 4090": (82.6e12, 165e12),
    "RTX 3090": (35.6e12, 71e12),
}


@dataclass(frozen=True)
class Row:
    """What was measured of a backend with some settings, a row of the table."""

    case: str
    what: str
    device: str
    updates_per_s: float
    """Critic updates, each with an actor update."""
    share_of_peak: float | None
    """Share of the card's peak in the precision that is computed in; None for JAX, and where no peak is known."""

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for a report."""
        return asdict(self)


def card() -> str | None:
    """The name of the GPU; None: PyTorch finds none.

    Raises:
        BackendError: PyTorch is not installed.
    """
    check_torch()
    from serl_rl.torch.computing.card import card_name

    return card_name()


def peak(card: str, precision: str) -> float | None:
    """Most operations per second [FLOP/s] of a card in float32 or bfloat16; None where it is not in the table."""
    words = card.replace("-", " ").upper()
    for name, (wide, narrow) in _PEAKS.items():
        _, found, further = f"{words} ".partition(f" {name.upper()} ")
        # Memory and socket may follow; anything else is another card, as a Ti is.
        if found and all(word[0].isdigit() or word.startswith(("SXM", "PCIE", "HBM")) for word in further.split()):
            return narrow if precision == "bfloat16" else wide
    return None


def table(card: str, *, cases: tuple[str, ...] = CASES, seconds: float = 5.0) -> Iterator[Row]:
    """Measure row by row: of each case JAX, then PyTorch with each of `PATHS`.

    Args:
        card: name of the GPU.
        cases: of `CASES`.
        seconds: to measure each.
    """
    for case in cases:
        spec, config, encoder, shape = settings(case)
        device = str(jax.devices()[0].platform)
        yield Row(case, "jax", device, updates_per_s(spec, config, encoder, shape, seconds), None)
        written = replace(config, backend="torch")
        flops = flops_per_update(spec, written, encoder, shape)
        for what, computing in PATHS.items():
            rate = updates_per_s(spec, replace(written, torch=computing), encoder, shape, seconds)
            most = peak(card, computing.precision)
            yield Row(case, what, card, rate, flops * rate / most if most else None)


def settings(case: str) -> tuple[TransitionSpec, LearningConfig, Encoder | None, tuple[int, int, int]]:
    """Specification, settings, encoder and (n_steps, utd_ratio, B) of one of `CASES`: SAC with two cameras."""
    sac = SACConfig(hidden_sizes=(256, 256))
    if case == "cached":
        shape = Encoder.random("small", 0).feature_shape(EDGE, EDGE)
        return cached_spec(shape), LearningConfig(sac=sac), None, (8, 1, BATCH)
    kind: EncoderKind = "small" if case.startswith("small") else "resnet10"
    vision = VisionConfig(encoder=EncoderConfig(kind=kind, frozen=case.endswith("frozen"), cached=False))
    return pixel_spec(), LearningConfig(sac=sac, vision=vision), Encoder.random(kind, 0), (4, 1, BATCH)


def updates_per_s(
    spec: TransitionSpec,
    config: LearningConfig,
    encoder: Encoder | None,
    shape: tuple[int, int, int],
    seconds: float,
) -> float:
    """Critic updates per second; see `settings` for the first four arguments."""
    agent, batch = create_agent(0, spec, config, encoder), random_batch(spec, shape)

    def update() -> None:
        nonlocal agent
        agent, info = agent.update(batch)
        int(agent.updates)
        float(info["actor_loss"])  # waits for it

    return shape[0] * shape[1] / median_seconds(update, seconds)


def flops_per_update(
    spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None, shape: tuple[int, int, int]
) -> float:
    """Floating-point operations of a critic update with its actor update, as PyTorch takes them as written.

    See `settings` for the arguments.
    """
    from serl_rl.torch.computing.card import counted_flops

    agent, batch = create_agent(0, spec, config, encoder), random_batch(spec, shape)
    return counted_flops(lambda: agent.update(batch)) / (shape[0] * shape[1])
