# SPDX-License-Identifier: Apache-2.0
"""Benchmark of what notices a file that was changed."""

from serl_rl.benchmarks.integrity import flip_bits

from serl_bench.benchmark import Bench, Measurement

FLIPS = 20_000


def bitflip_detected(bench: Bench) -> Measurement:
    """Share of flipped bits that are detected or harmless, in %; worst seed."""
    reports = []
    for seed in bench.seeds:
        bench.say(f"{FLIPS} flips, seed {seed}")
        folder = bench.scratch / f"flips-{seed}"
        folder.mkdir()
        reports.append(flip_bits(folder, FLIPS, seed))
    worst = min(reports, key=lambda report: report.detected)
    total = sum(sum(report.flips.values()) for report in reports)
    details = {"flips": worst.flips, "missed": worst.missed[:20], "unnamed": worst.unnamed[:20]}
    return Measurement(worst.detected, f"{total:,} flips, {len(worst.flips)} kinds of files", details)
