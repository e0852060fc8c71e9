# SPDX-License-Identifier: Apache-2.0
"""Every number that ``serl bench`` can measure, with its goal.

A benchmark is a function ``(Bench) -> Measurement`` named by ``module:function``; the module is imported only when the
benchmark runs, so that listing them costs nothing. To add one, write the function and a line below.
"""

from collections.abc import Iterable

from serl_config.schema import nearest
from serl_launch.errors import UsageError

from serl_bench.arm_benchmarks import ARM_BENCHMARKS
from serl_bench.backend_benchmarks import BACKEND_BENCHMARKS
from serl_bench.benchmark import Benchmark
from serl_bench.network_benchmarks import NETWORK_BENCHMARKS

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "pick_state_steps",
        "pick_cube, state, sparse reward, 20 demonstrations, through the graph: online env steps until at least 95 % "
        "of 50 evaluation episodes succeed, worst seed",
        "env steps",
        "less",
        3000,
        "serl_bench.graph.training_runs:pick_state_steps",
    ),
    Benchmark(
        "pick_state_wall_s",
        "the same, wall time from the start of the graph, compile cache warm, median seed",
        "s",
        "less",
        30,
        "serl_bench.graph.training_runs:pick_state_wall_s",
    ),
    Benchmark(
        "pick_pixels_steps",
        "pick_cube from two cameras of 128 x 128 and proprioception, sparse reward, 20 demonstrations, through the "
        "graph: online env steps until at least 95 % of 50 evaluation episodes succeed, worst seed",
        "env steps",
        "less",
        2500,
        "serl_bench.graph.training_runs:pick_pixels_steps",
    ),
    Benchmark(
        "pick_pixels_wall_s",
        "the same, wall time from the start of the graph, compile cache warm, median seed",
        "s",
        "less",
        45,
        "serl_bench.graph.training_runs:pick_pixels_wall_s",
    ),
    Benchmark(
        "pick_classifier_success",
        "the same, but a classifier of pictures, recorded and trained for each seed, is the only reward: true success "
        "after at most 4000 env steps, worst seed",
        "%",
        "more",
        90,
        "serl_bench.graph.classifier_reward:pick_classifier_success",
    ),
    Benchmark(
        "classifier_hz",
        "answers of the classifier's node, two cameras, to the graph in lockstep",
        "Hz",
        "more",
        30,
        "serl_bench.graph.classifier_reward:classifier_hz",
    ),
    Benchmark(
        "graph_steps_per_s",
        "lockstep graph, state observation, random actions, resets included, learner idle",
        "env steps/s",
        "more",
        500,
        "serl_bench.graph.stepping:graph_steps_per_s",
    ),
    Benchmark(
        "learner_share",
        "updates/s of a learner that trains without end while the graph steps as fast as it can, relative to alone",
        "",
        "more",
        0.7,
        "serl_bench.graph.stepping:learner_share",
    ),
    Benchmark(
        "sac_ref_updates_per_s",
        "critic updates at the reference SERL settings (batch 256, 10 critics, subset 2, UTD 8, 2 x 256), one process",
        "updates/s",
        "more",
        140,
        "serl_bench.library.update_rate:sac_ref_updates_per_s",
    ),
    Benchmark(
        "cached_small_updates_per_s",
        "SAC from two cameras, cached features 4 x 4 x 64: updates (one of critics, one of the actor), batch 64, "
        "2 critics of 2 x 256, one process",
        "updates/s",
        "more",
        350,
        "serl_bench.library.update_rate:cached_small_updates_per_s",
    ),
    Benchmark(
        "cached_resnet10_updates_per_s",
        "the same on cached feature maps of a ResNet-10, 4 x 4 x 512",
        "updates/s",
        "more",
        100,
        "serl_bench.library.update_rate:cached_resnet10_updates_per_s",
    ),
    Benchmark(
        "pixels_small_updates_per_s",
        "the same on pictures of 128 x 128, small encoder trained",
        "updates/s",
        "more",
        10,
        "serl_bench.library.update_rate:pixels_small_updates_per_s",
    ),
    Benchmark(
        "pixels_resnet10_updates_per_s",
        "the same on pictures, frozen ResNet-10 run in each update (SERL: 0.36, which is the goal here)",
        "updates/s",
        "more",
        0.36,
        "serl_bench.library.update_rate:pixels_resnet10_updates_per_s",
    ),
    Benchmark(
        "insert_state_per_s",
        "transitions acknowledged over the graph, state, in chunks of 64",
        "transitions/s",
        "more",
        10_000,
        "serl_bench.graph.transport:insert_state_per_s",
    ),
    Benchmark(
        "insert_image_per_s",
        "the same, two raw images of 128 x 128 x 3 each, in chunks of 16",
        "transitions/s",
        "more",
        1_500,
        "serl_bench.graph.transport:insert_image_per_s",
    ),
    Benchmark(
        "policy_push_ms",
        "policy of 1 MB published until an action chosen with it is back, median",
        "ms",
        "less",
        10,
        "serl_bench.graph.transport:policy_push_ms",
    ),
    Benchmark(
        "lost_after_kills",
        "acknowledged transitions lost over 50 kill -9 of learner or sender at random moments",
        "transitions",
        "less",
        0,
        "serl_bench.graph.transport:lost_after_kills",
    ),
    Benchmark(
        "wan_lost",
        "acknowledged transitions that are not in the journal, an actor of 10 Hz and a learner on two hosts, 50 ms of "
        "delay each way, 2 % of packets lost, three cuts of 10 s; needs root",
        "transitions",
        "less",
        0,
        "serl_bench.network.wan:wan_lost",
    ),
    Benchmark(
        "fleet_lost",
        "transitions that actors have said are acknowledged and that are not in the journal, after 30 kill -9 of "
        "random actors of four and of their learner",
        "transitions",
        "less",
        0,
        "serl_bench.fleet.kills:fleet_lost",
        by_default=False,
    ),
    Benchmark(
        "fleet_speedup",
        "pick_cube, state, in real time: time to at least 95 % of 20 evaluation episodes with four "
        "arms over that with one, median seed",
        "",
        "less",
        0.4,
        "serl_bench.fleet.speedup:fleet_speedup",
        by_default=False,
    ),
    Benchmark(
        "bitflip_detected",
        "20,000 flipped bits in journal, checkpoint and its manifest, demonstrations, policy, encoder, classifier and "
        "frames: detected by the reader, which names the file, or harmless",
        "%",
        "more",
        100,
        "serl_bench.library.bit_flips:bitflip_detected",
    ),
    Benchmark(
        "record_dropped",
        "messages missing in a bag of 2 cameras 640x480 at 30 Hz and states at 100 Hz, 10 minutes, recorder on one "
        "core; needs ./serl setup recordings",
        "messages",
        "less",
        0,
        "serl_bench.graph.raw_recording:record_dropped",
        by_default=False,
    ),
    Benchmark(
        "record_lost_episodes",
        "complete episodes lost over 50 kill -9 of a recording, each format that is set up (recordings, rerun)",
        "episodes",
        "less",
        0,
        "serl_bench.library.killed_recordings:record_lost_episodes",
        by_default=False,
    ),
    Benchmark(
        "estop_ms",
        "from the call of arm/estop until the arm is commanded to hold, p99 over 200 stops: idle, policy, person, "
        "move_to in space and in joint space, just released, lockstep; with a flood on every topic beside it",
        "ms",
        "less",
        100,
        "serl_bench.safety.stopping:estop_ms",
    ),
    Benchmark(
        "console_estop_ms",
        "from a finger on STOP in a browser until the arm is commanded to hold, p99 of 50; a policy leads, and two "
        "browsers show two cameras of 640 x 480 at 30 pictures a second; needs Chromium",
        "ms",
        "less",
        100,
        "serl_bench.safety.console_stop:console_estop_ms",
        by_default=False,
    ),
    Benchmark(
        "device_to_target_ms",
        "from the first report of a SpaceMouse that is pushed, and its button pressed to lead, until the first target "
        "that leads the arm there is at the bridge, p99 of 50; reports at 50 Hz, the arm stands, real time",
        "ms",
        "less",
        20,
        "serl_bench.safety.device_to_target:device_to_target_ms",
        by_default=False,
    ),
    Benchmark(
        "takeover_max_step",
        "largest step of the commanded tool between two commands, over 10,000 takeovers by a leader arm and as many "
        "releases at random, with random limits and settings: hand, policy, leader, arm controller in one process",
        "step limits",
        "less",
        1,
        "serl_bench.safety.takeovers:takeover_max_step",
        by_default=False,
    ),
    Benchmark(
        "death_to_hold_s",
        "from the death of policy, device, answering person, joint states, driver, cable or what is behind it until "
        "the arm is commanded to hold, real time, worst of 30 each",
        "s",
        "less",
        0.25,
        "serl_bench.safety.deaths:death_to_hold_s",
    ),
    Benchmark(
        "acceleration_ratio",
        "largest commanded acceleration over its limit in a million events: policy, person, episodes, resets, stops, "
        "faults, goals, pushes, silence, garbled time",
        "",
        "less",
        1.000001,
        "serl_bench.safety.stopping:acceleration_ratio",
    ),
    Benchmark(
        "capture_ms",
        "rendering two cameras of 128 x 128 and encoding them (K = 2, small encoder), for each env step, one process, "
        "median",
        "ms",
        "less",
        1.5,
        "serl_bench.library.capture:capture_ms",
    ),
    Benchmark(
        "image_to_action_ms",
        "two cameras of 640 x 480: from publishing the pictures until the action for them is back, p99; cropped, "
        "resized to 128 x 128, encoded (K = 2) and acted on by another process",
        "ms",
        "less",
        15,
        "serl_bench.graph.image_to_action:image_to_action_ms",
    ),
    Benchmark(
        "replay_kb_cached",
        "replay memory of a transition, two cameras, features 4 x 4 x 64 in two views; kB of 1024 bytes",
        "kB",
        "less",
        10,
        "serl_bench.library.replay_memory:replay_kb_cached",
    ),
    Benchmark(
        "replay_kb_jpeg",
        "the same, pictures 128 x 128 as JPEG",
        "kB",
        "less",
        20,
        "serl_bench.library.replay_memory:replay_kb_jpeg",
    ),
    Benchmark(
        "replay_kb_raw",
        "the same, pictures as they are",
        "kB",
        "less",
        100,
        "serl_bench.library.replay_memory:replay_kb_raw",
    ),
    Benchmark(
        "replay_jpeg_samples_per_s",
        "minibatches of 256 two-camera transitions drawn from JPEG replay",
        "samples/s",
        "more",
        20,
        "serl_bench.library.replay_memory:replay_jpeg_samples_per_s",
    ),
    Benchmark(
        "replay_cold",
        "minibatches of 256 transitions with cached features of two cameras, 9 of 10 read from files in the page "
        "cache; states, pictures, other shares, the disk and memory in the report",
        "samples/s",
        "more",
        50,
        "serl_bench.library.replay_cold:replay_cold",
        by_default=False,
    ),
    Benchmark(
        "cloning_gap",
        "insert_peg_vision, 20 demonstrations, through the graph: success of the learned policy minus that of cloning "
        "the same demonstrations, 50 episodes each, worst seed",
        "points",
        "more",
        45,
        "serl_bench.suite.numbers:cloning_gap",
        by_default=False,
    ),
    Benchmark(
        "insert_main_wall_s",
        "insert_peg_vision: wall time from the start of the graph until at least 95 % of 50 evaluation episodes "
        "succeed, and of 50 others, compile cache warm, median seed",
        "s",
        "less",
        60,
        "serl_bench.suite.numbers:insert_main_wall_s",
        by_default=False,
    ),
    Benchmark(
        "teacher_gain",
        "insert_peg from state: success of the learned policy after at most 4000 env steps minus that of its teacher, "
        "worst seed",
        "points",
        "more",
        80,
        "serl_bench.suite.numbers:teacher_gain",
        by_default=False,
    ),
    Benchmark(
        "suite_state_solved",
        "of the seven tasks of the suite, from state, with interventions, within 15,000 env steps: those at which the "
        "last policy of every seed succeeds in at least 95 % of 50 episodes",
        "tasks",
        "more",
        7,
        "serl_bench.suite.numbers:suite_state_solved",
        by_default=False,
    ),
    Benchmark(
        "suite_vision_solved",
        "the same from two cameras, in ten minutes each",
        "tasks",
        "more",
        6,
        "serl_bench.suite.numbers:suite_vision_solved",
        by_default=False,
    ),
    Benchmark(
        "bc_gap",
        "insertion tasks from state: mean success of the learned policies minus that of cloning 100 demonstrations",
        "points",
        "more",
        40,
        "serl_bench.suite.numbers:bc_gap",
        by_default=False,
    ),
    Benchmark(
        "cycle_ratio",
        "steps of a successful episode of the learned policy over those of the scripted expert, tasks of the suite "
        "from state, smallest over the tasks of the median seed's",
        "",
        "less",
        0.9,
        "serl_bench.suite.numbers:cycle_ratio",
        by_default=False,
    ),
    Benchmark(
        "pick_one_demo_steps",
        "pick_cube_vision with one demonstration and the scripted person's interventions, through the graph: online "
        "env steps until at least 95 % of 50 evaluation episodes succeed without help, of 4000, worst seed; without "
        "interventions beside it",
        "env steps",
        "less",
        2500,
        "serl_bench.suite.numbers:pick_one_demo_steps",
        by_default=False,
    ),
    Benchmark(
        "help_speedup",
        "insert_peg from state, the hardest task of the suite that gets there: online env steps until at least 95 % of "
        "50 evaluation episodes succeed, of 15,000, without interventions over those with them, medians of 3 seeds",
        "",
        "more",
        1.5,
        "serl_bench.suite.numbers:help_speedup",
        by_default=False,
    ),
    Benchmark(
        "bin_fwbw_success",
        "relocate_forward and relocate_backward learned by turns, from state, with 20 demonstrations of each and "
        "interventions: success of both policies over 200 episodes by turns without a reset by anyone, worst seed",
        "%",
        "more",
        90,
        "serl_bench.graph.turns:bin_fwbw_success",
        by_default=False,
    ),
    Benchmark(
        "encoder_transfer",
        "insert_peg_vision with a frozen encoder of photographs, which has seen neither the task nor our renderer: env "
        "steps to 95 % over those with the best of it, the shipped and a random one, medians of the seeds "
        "(./serl setup efficientnet)",
        "",
        "less",
        1.3,
        "serl_bench.graph.encoders:encoder_transfer",
        by_default=False,
    ),
    Benchmark(
        "gym_hil_steps",
        "gym-hil's cube, lying anywhere, from its state, 30 demonstrations, through the graph: online "
        "env steps until at least 95 % of 50 evaluation episodes succeed, worst seed (./serl setup gym gym_hil)",
        "env steps",
        "less",
        4000,
        "serl_bench.graph.training_runs:gym_hil_steps",
        by_default=False,
    ),
    Benchmark(
        "metaworld_solved",
        "of Meta-World's 50 tasks, state, sparse success, 20 demonstrations, 10,000 control steps: those at which "
        "the last policy succeeds in at least 95 % of 50 episodes (./serl setup gym metaworld)",
        "tasks",
        "more",
        49,
        "serl_bench.suite.numbers:metaworld_solved",
        by_default=False,
    ),
    Benchmark(
        "fuzz_messages",
        "hostile messages, requests and goals for everything that the graphs listen to, survived: no exit, no wrong "
        "target, every service answers, training goes on",
        "messages",
        "more",
        100_000,
        "serl_bench.fuzz.fuzz_graph:fuzz_messages",
        by_default=False,
    ),
    Benchmark(
        "ci_minutes",
        ".ci/run from an empty clone, set-up included",
        "min",
        "less",
        20,
        "serl_bench.ci:ci_minutes",
        by_default=False,
    ),
    *BACKEND_BENCHMARKS,
    *ARM_BENCHMARKS,
    *NETWORK_BENCHMARKS,
)


def select(keys: Iterable[str], benchmarks: Iterable[Benchmark] = BENCHMARKS) -> list[Benchmark]:
    """The benchmarks of `keys` in the order of the registry; without keys those that run by default.

    Raises:
        UsageError: a key is unknown.
    """
    benchmarks, wanted = list(benchmarks), list(keys)
    unknown = set(wanted) - {each.key for each in benchmarks}
    if unknown:
        known = [each.key for each in benchmarks]
        wrong = sorted(unknown)
        raise UsageError(f"no benchmark {', '.join(wrong)}: there are {', '.join(known)}{nearest(wrong[0], known)}")
    return [each for each in benchmarks if (each.key in wanted if wanted else each.by_default)]
