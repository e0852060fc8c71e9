# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the learning library alone, without a graph."""

import statistics

from serl_bringup.bench.registry import Bench, Measurement

WINDOWS = 5
WINDOW_SECONDS = 4.0


def sac_ref_updates_per_s(bench: Bench) -> Measurement:
    """Critic updates per second at SERL's own settings, with one actor update for each UTD ratio of them."""
    from serl_rl.benchmark import sac_reference_updates_per_s

    bench.say("  compiling")
    rates = [sac_reference_updates_per_s(WINDOW_SECONDS) for _ in range(WINDOWS)]
    spread = f"{min(rates):.0f} to {max(rates):.0f} in {WINDOWS} windows of {WINDOW_SECONDS:.0f} s"
    return Measurement(statistics.median(rates), spread, {"windows": rates})
