# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the learning library alone, without a graph."""

import statistics
from typing import Literal

from serl_bench.benchmark import Bench, Measurement

WINDOWS = 5
WINDOW_SECONDS = 4.0


def sac_ref_updates_per_s(bench: Bench) -> Measurement:
    """Critic updates per second at SERL's own settings, with one actor update for each UTD ratio of them."""
    from serl_rl.benchmarks.learning import sac_reference_updates_per_s

    bench.say("  compiling")
    rates = [sac_reference_updates_per_s(WINDOW_SECONDS) for _ in range(WINDOWS)]
    spread = f"{min(rates):.0f} to {max(rates):.0f} in {WINDOWS} windows of {WINDOW_SECONDS:.0f} s"
    return Measurement(statistics.median(rates), spread, {"windows": rates})


def cached_small_updates_per_s(bench: Bench) -> Measurement:
    """Updates per second on cached features of the small encoder."""
    return _cached(bench, "small")


def cached_resnet10_updates_per_s(bench: Bench) -> Measurement:
    """Updates per second on cached feature maps of a ResNet-10."""
    return _cached(bench, "resnet10")


def pixels_small_updates_per_s(bench: Bench) -> Measurement:
    """Updates per second on pictures, with a small encoder that is trained."""
    return _pixels(bench, "small", frozen=False)


def pixels_resnet10_updates_per_s(bench: Bench) -> Measurement:
    """Updates per second on pictures, with a frozen ResNet-10 that is run in each update."""
    return _pixels(bench, "resnet10", frozen=True)


def sharded_overhead(bench: Bench) -> Measurement:
    """Updates per second on a mesh of one device over those without a mesh, at SERL's own settings."""
    from serl_rl.benchmarks.backends import sharded_ratio

    bench.say("  compiling")
    ratio = sharded_ratio("reference", windows=WINDOWS, seconds=WINDOW_SECONDS)
    spread = f"{min(ratio.windows):.2f} to {max(ratio.windows):.2f} in {WINDOWS} windows by turns"
    spread += f"; {ratio.cpu:.2f} by processor time"
    return Measurement(ratio.wall, spread, ratio._asdict())


def _cached(bench: Bench, kind: str) -> Measurement:
    from serl_rl.benchmarks.vision import cached_update_times

    bench.say("  compiling")
    windows = [cached_update_times(kind, seconds=WINDOW_SECONDS) for _ in range(WINDOWS)]
    return _rate([window.wall_ms for window in windows], [window.cpu_ms for window in windows])


def _pixels(bench: Bench, kind: Literal["small", "resnet10"], *, frozen: bool) -> Measurement:
    from serl_rl.benchmarks.vision import pixel_update_times

    bench.say("  compiling")
    windows = [pixel_update_times(kind, frozen=frozen, seconds=WINDOW_SECONDS) for _ in range(3)]
    return _rate([window.wall_ms for window in windows], [window.cpu_ms for window in windows])


def _rate(wall_ms: list[float], cpu_ms: list[float]) -> Measurement:
    rates = [1e3 / each for each in wall_ms]
    cpu = statistics.median(cpu_ms)
    spread = f"{min(rates):.3g} to {max(rates):.3g} in {len(rates)} windows; {cpu:.3g} ms of processor time each"
    return Measurement(statistics.median(rates), spread, {"windows": rates, "cpu_ms": cpu_ms})
