# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that compare what computes: PyTorch with JAX, JAX on a mesh with itself, our networks with others."""

from serl_bench.benchmark import Benchmark

BACKEND_BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "torch_sac_ref_ratio",
        "updates/s of PyTorch, compiled, over those of JAX at the reference SERL settings, by turns in one process on "
        "one core; beside it as its steps are written (./serl setup torch)",
        "",
        "more",
        0.95,
        "serl_bench.library.backend_ratio:torch_sac_ref_ratio",
    ),
    Benchmark(
        "torch_cached_ratio",
        "the same from cached features 4 x 4 x 64 of two cameras",
        "",
        "more",
        0.95,
        "serl_bench.library.backend_ratio:torch_cached_ratio",
    ),
    Benchmark(
        "torch_pixels_ratio",
        "the same on pictures of 128 x 128, small encoder trained",
        "",
        "more",
        1.0,
        "serl_bench.library.backend_ratio:torch_pixels_ratio",
    ),
    Benchmark(
        "sharded_overhead",
        "updates/s of JAX on a mesh of one device over those without a mesh, at the reference SERL settings, by turns "
        "in one process",
        "",
        "more",
        0.95,
        "serl_bench.library.update_rate:sharded_overhead",
    ),
    Benchmark(
        "backends_gpu",
        "on a GPU, minibatches of 256, two cameras, cached features, small encoder and ResNet-10: updates/s of PyTorch "
        "with its fastest settings over those of JAX, worst case; beside it a row for each setting (./serl setup "
        "torch)",
        "",
        "more",
        1.0,
        "serl_bench.library.gpu:backends_gpu",
        by_default=False,
    ),
    Benchmark(
        "act_import_max_error",
        "largest difference of an imported ACT policy's actions to those of LeRobot's own class over 100 random "
        "observations, worst of three architectures (./serl setup lerobot)",
        "",
        "less",
        1e-5,
        "serl_bench.library.act:act_import_max_error",
        by_default=False,
    ),
    Benchmark(
        "act_ms",
        "one ACT forward of default size, two cameras of 128 x 128 pixels: duration in JAX / in LeRobot "
        "(./serl setup lerobot)",
        "",
        "less",
        1.0,
        "serl_bench.library.act:act_ms",
        by_default=False,
    ),
    Benchmark(
        "act_train_ratio",
        "one update of ACT of default size on 16 moments of two cameras of 64 x 64 pixels: duration in JAX / in "
        "LeRobot (./serl setup lerobot)",
        "",
        "less",
        1.25,
        "serl_bench.library.act:act_train_ratio",
        by_default=False,
    ),
    Benchmark(
        "act_rl_gain",
        "pick_cube_vision: success of an ACT policy of few demonstrations after at most 3000 env steps of online "
        "learning, worst seed; beside it, before, and distilled into a directory that LeRobot's own class runs "
        "(./serl setup lerobot)",
        "%",
        "more",
        95,
        "serl_bench.graph.act_improvement:act_rl_gain",
        by_default=False,
    ),
    Benchmark(
        "act_against_lerobot",
        "pick_cube_vision: success of a small ACT trained by LeRobot's class and optimizer minus that of the same one "
        "trained in JAX, same recordings, first weights and epochs, 50 same starts, mean of two trainings of each for "
        "a seed (./serl setup lerobot)",
        "%",
        "less",
        10,
        "serl_bench.graph.act_trainers:act_against_lerobot",
        by_default=False,
    ),
    Benchmark(
        "drqv2_import_gain",
        "pick_cube, state: a DrQ-v2 policy of another implementation that succeeds in 30 to 70 %, saved as a RoboBase "
        "snapshot, and improved in the graph from its own weights: success after at most 3000 env steps, worst seed "
        "(./serl setup torch)",
        "%",
        "more",
        95,
        "serl_bench.graph.drqv2_import:drqv2_import_gain",
        by_default=False,
    ),
)
