# SPDX-License-Identifier: Apache-2.0
"""Graphs under hostile messages: training before, all kinds of messages meanwhile, training as before afterwards."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from serl_launch.errors import CommandError
from serl_launch.graph_session import GraphSession
from serl_launch.language.packages import find_executable
from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.reward.classifier import RewardClassifier
from serl_rl.storage.chunk import encode_chunk
from serl_ros.images import encode_jpeg
from serl_training.link.contract import find_encoder, load_learning, transition_spec
from serl_training.reward.reward_frames import frame_source
from std_srvs.srv import SetBool, Trigger

from serl_bench.benchmark import Bench, Measurement
from serl_bench.fuzz.fuzzer import MOVES_THE_WORLD, Found, Fuzzer, LogWatch
from serl_bench.graph.peers_node import numbered_chunk
from serl_bench.peer_processes import stop
from serl_interfaces.action import Train
from serl_interfaces.srv import InsertTransitions
from serl_tasks import get_task

MOST_GROWTH = 300.0  # [MB] of one process
STEPS = 40  # env steps of the trainings before and after
NODES = ("mujoco_bridge", "arm_controller", "reward", "scripted_human", "learner", "actor")
_STATE_MESSAGES, _VISION_MESSAGES = 70_000, 31_000
_STRICT_SHARE = 0.7  # of the messages, sent while every target must lie in the workspace
_BUSY_TIMEOUT = 20.0  # [s] until the actor has left the last of the hostile goals


@dataclass
class Report:
    """How a graph took it."""

    found: Found
    problems: list[str]
    growth: float  # [MB] of the process that grew most


@dataclass(frozen=True)
class Extra:
    """A node that is started beside the launch file."""

    package: str
    executable: str
    arguments: tuple[str, ...]  # behind --ros-args


def fuzz_graph(
    task_name: str,
    count: int,
    scratch: Path,
    *,
    seed: int,
    extras: tuple[Extra, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Start the whole graph, train a little, send `count` hostile messages, train a little again.

    Args:
        task_name: what the graph does.
        count: of messages, requests and goals.
        scratch: folder for everything.
        seed: of what is sent.
        extras: nodes beside those of the launch file.
        say: told what goes on.

    Raises:
        CommandError: a node died, a service did not answer, or training did not go on.
    """
    task = get_task(task_name)
    log_dir = scratch / "log"
    arguments = {"task": task_name, "interventions": "true", "run_dir": str(scratch / "run")}
    heard: list[str] = []
    with (
        chdir(scratch),
        GraphSession("sim.launch.xml", arguments, name="fuzz", log_dir=log_dir) as session,
        _extra_nodes(extras, log_dir) as others,
    ):
        session.on_metrics(lambda node, _steps, _values: heard.append(node))
        _train(session, "before")
        fuzzer = Fuzzer(session.client, task, seed, session.check)
        try:
            watch = LogWatch(log_dir / "launch.log")
            say(f"{task_name}: {len(fuzzer.topics)} topics, {len(fuzzer.services)} services, {len(fuzzer.actions)} "
                f"actions")  # fmt: skip
            _teach(fuzzer, task_name)
            with _background_training(session):
                session.client.spin_until(lambda: False, 1.0, session.check)  # real messages are heard meanwhile
                fuzzer.run(round(_STRICT_SHARE * count), without=MOVES_THE_WORLD)
            fuzzer.run(count - round(_STRICT_SHARE * count))
        finally:
            fuzzer.close()
        session.check()
        found = fuzzer.found
        problems = [f"{text} ({times} times)" for text, times in found.failures.items()]
        problems += [f"{name} died" for name in NODES if session.deaths(name)]
        problems += [f"{name} ended" for name, process in others.items() if process.poll() is not None]
        problems += sorted(set(watch.problems(found.messages)))[:20]
        growth = max(watch.growth.values(), default=0.0)
        if growth > MOST_GROWTH:
            problems.append(f"a process grew by {growth:.0f} MB")
        if not heard:
            problems.append("the command line heard no metrics")
        for paused in ("sim/pause", "episode/pause"):
            session.client.call(SetBool, paused, SetBool.Request(data=False))
        session.client.call(Trigger, "arm/reset_estop", Trigger.Request())
        for action in fuzzer.actions:
            # of all goals: one that was accepted as the fuzzer ended is in nobody's hands
            session.client.call(CancelGoal, f"{action}/_action/cancel_goal", CancelGoal.Request())
        _train(session, "after")
    return Report(found, problems, growth)


def _teach(fuzzer: Fuzzer, task_name: str) -> None:
    """What a valid request looks like, where a default one is not."""
    task = get_task(task_name)
    learning = load_learning("", task)
    spec = transition_spec(task, learning, find_encoder(task, learning, simulated=True))
    data = encode_chunk(numbered_chunk(spec, 0, 4, np.random.default_rng(0)))
    chunk = InsertTransitions.Request(actor_id="fuzz", session_id="fuzz", count=4)
    chunk.data.frombytes(data)
    for name in fuzzer.services:
        if name.endswith("/learner/insert"):
            fuzzer.learn(name, chunk)
    for name in fuzzer.actions:
        if name.endswith("/train"):
            fuzzer.learn(name, _goal(10**6))


def _goal(max_env_steps: int) -> Train.Goal:
    return Train.Goal(
        demonstrations=1, max_env_steps=max_env_steps, eval_every=10**6, eval_episodes=1, success_goal=1.0, seed=0
    )


def _train(session: GraphSession, when: str) -> None:
    """Take some steps, as `./serl train` does."""
    steps = 0
    if when == "after":
        steps = session.client.call(InsertTransitions, "learner/insert", InsertTransitions.Request()).env_steps
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            result = session.run_action(
                Train, "train", _goal(steps + STEPS), executable="actor", on_feedback=lambda _: None
            )
            break
        except CommandError as error:
            if "refused" not in str(error) or time.monotonic() > deadline:
                raise
            session.client.spin_until(lambda: False, 0.5)
    if result.termination_reason not in ("max_env_steps", "goal"):
        raise CommandError(f"fuzz: training {when} ended with {result.termination_reason}: {result.message}")


@contextmanager
def _background_training(session: GraphSession) -> Iterator[None]:
    """A training that goes on while messages come, as far as they let it."""
    client = session.client
    action = ActionClient(client.node, Train, "train")
    sent = action.send_goal_async(_goal(10**6))
    if not client.spin_until(sent.done, 10.0) or not sent.result().accepted:
        raise CommandError("fuzz: the actor refused a training")
    yield
    sent.result().cancel_goal_async()
    client.spin_until(lambda: False, 0.2)
    action.destroy()


@contextmanager
def _extra_nodes(extras: tuple[Extra, ...], log_dir: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    started: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        for number, extra in enumerate(extras):
            log = stack.enter_context((log_dir / f"extra_{number}.log").open("wb"))
            command: list[Any] = [find_executable(extra.package, extra.executable, os.environ), "--ros-args"]
            process = subprocess.Popen(
                [*command, *extra.arguments], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            stack.callback(stop, process)
            started[extra.executable] = process
        yield started


def fuzz_messages(bench: Bench) -> Measurement:
    """Messages that the graphs of both tasks took, with every judge, a camera and a listening command beside them.

    Raises:
        CommandError: something did not hold; names all of it.
    """
    sent, problems, stops, growth, by_graph = 0, [], [], 0.0, {}
    for task_name, count in (("pick_cube", _STATE_MESSAGES), ("pick_cube_vision", _VISION_MESSAGES)):
        scratch = bench.scratch / f"fuzz-{task_name}"
        scratch.mkdir(parents=True)
        report = fuzz_graph(
            task_name, count, scratch, seed=bench.seeds[0], extras=extra_nodes(task_name, scratch), say=bench.say
        )
        sent += report.found.messages
        problems += [f"{task_name}: {problem}" for problem in report.problems]
        stops += report.found.stops
        growth = max(growth, report.growth)
        by_graph[task_name] = {"sent": dict(report.found.sent), "targets_checked": report.found.targets}
    if problems:
        raise CommandError(f"fuzz_messages: {len(problems)} things did not hold", details=problems)
    spread = f"e-stop within {1000 * max(stops):.0f} ms, memory +{growth:.0f} MB at most"
    return Measurement(float(sent), spread, {"graphs": by_graph, "estop_s": stops, "growth_mb": growth})


def extra_nodes(task_name: str, scratch: Path) -> tuple[Extra, ...]:
    """Every judge that the launch file does not start, on topics of their own, and a camera of pictures in files."""
    human = Extra("serl_training", "reward_human", ("-r", "reward:=reward_of_a_person"))
    pictures = scratch / "pictures"
    pictures.mkdir()
    for number in range(4):
        picture = encode_jpeg(np.full((48, 64, 3), 60 * number, np.uint8))
        (pictures / f"{number}.jpg").write_bytes(picture.tobytes())
    camera = Extra(
        "serl_cameras", "camera", ("-r", "__node:=side", "-p", "source:=file", "-p", f"path:={pictures}")
    )  # fmt: skip
    if not get_task(task_name).cameras:
        return (human, camera)
    classifier = scratch / "classifier.safetensors"
    source = frame_source(get_task(task_name))
    RewardClassifier.untrained(source, RewardClassifierConfig(weights="random"), Encoder.random("small", 0)).save(
        classifier
    )
    arguments = ("-r", "reward:=reward_of_a_classifier", "-p", f"task:={task_name}", "-p", f"classifier:={classifier}")
    return (human, camera, Extra("serl_training", "reward_classifier", arguments))
