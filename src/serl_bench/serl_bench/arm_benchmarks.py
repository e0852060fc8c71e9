# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of arms: their drivers, their motions, and what they learn through them or as a pair."""

from serl_bench.benchmark import Benchmark

ARM_BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "pick_so101_steps",
        "pick_cube through the driver of an emulated SO-101, state: env steps until 95 % of 20 episodes, worst seed",
        "env steps",
        "less",
        5000,
        "serl_bench.graph.training_runs:pick_so101_steps",
        by_default=False,
    ),
    Benchmark(
        "dual_lift_success",
        "lift_bar with two arms and one policy, state, 20 demonstrations, through the graph: success in 50 episodes "
        "after at most 10,000 env steps, worst seed",
        "%",
        "more",
        90,
        "serl_bench.graph.training_runs:dual_lift_success",
        by_default=False,
    ),
    Benchmark(
        "vendor_episodes",
        "of 20 episodes of pick_cube that a scripted person leads in real time, through the graph, the driver and the "
        "vendor's client at its emulator, those that succeed; fewest of all arms that have one; needs the extras "
        "of docs/drivers.md",
        "of 20",
        "more",
        18,
        "serl_bench.graph.vendor_episodes:vendor_episodes",
        by_default=False,
    ),
    Benchmark(
        "wire_latency_ms",
        "from a policy's action until the first target on the wire of an emulated arm of servos that goes where it "
        "says, p99 of 100; the graph of real.launch.xml, policy at 10 Hz, targets at 100 Hz",
        "ms",
        "less",
        15,
        "serl_bench.safety.wire:wire_latency_ms",
        by_default=False,
    ),
    Benchmark(
        "interp_jitter_ms",
        "by how much the time between two targets on that wire differs from 10 ms, p99, in the same minute",
        "ms",
        "less",
        2,
        "serl_bench.safety.wire:interp_jitter_ms",
        by_default=False,
    ),
    Benchmark(
        "ik_ms",
        "one step of the Panda's inverse kinematics, with limits, distances between links and singular configurations; "
        "median, worst seed",
        "ms",
        "less",
        0.2,
        "serl_bench.library.motion:ik_ms",
    ),
    Benchmark(
        "plan_success",
        "of 200 random reachable poses beside a table and two posts, those to which a free way of the Panda is found, "
        "worst seed; needs ./serl setup planning",
        "%",
        "more",
        99,
        "serl_bench.library.motion:plan_success",
        by_default=False,
    ),
)
"""See `registry`."""
