# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of other stacks' clients and servers, beside ours."""

from serl_bench.benchmark import Benchmark

NETWORK_BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "agentlace_state_per_s",
        "transitions/s of agentlace's own client, 30 in an update, until they are in the journal behind our gateway, "
        "over those into agentlace's own server, by turns; state (agentlace in PYTHONPATH, ./serl setup agentlace)",
        "",
        "more",
        1.5,
        "serl_bench.network.agentlace:agentlace_state_per_s",
        by_default=False,
    ),
    Benchmark(
        "agentlace_image_per_s",
        "the same with two pictures of 128 x 128 x 3, of which our gateway makes the features that are stored; beside "
        "it with pictures kept",
        "",
        "more",
        1.0,
        "serl_bench.network.agentlace:agentlace_image_per_s",
        by_default=False,
    ),
)
