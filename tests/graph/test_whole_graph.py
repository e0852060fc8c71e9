# SPDX-License-Identifier: Apache-2.0
"""The whole simulated graph, as a person starts it: learning, kills, Ctrl-C, resuming, real time."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from running_training import chunks, online, pids, tombstones, wait_for
from sensor_msgs.msg import Image
from serl_launch.clients.permissions_node import denied
from serl_launch.graph_session import GraphSession
from serl_rl.backends import create_agent, make_policy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.storage.demonstrations import DemonstrationFile, read_demonstrations
from serl_ros.images import image_message
from serl_ros.qos import LATCHED, LOOP_1
from serl_security.policy import load_policy
from serl_tasks.camera_view import CameraView
from serl_tasks.messages import nanoseconds
from serl_training.env.episode import EpisodeMode
from serl_training.env.graph_connection import GraphError
from serl_training.env.graph_env import GraphEnv
from serl_training.learner.run_log import read_metrics
from serl_training.link.contract import find_encoder, load_learning, transition_spec

from serl_interfaces.msg import ArmState, Metrics, PolicyParameters, SafetyStatus, TeleopEvent
from serl_tasks import get_task

pytestmark = pytest.mark.graph

TASK, VISION = get_task("pick_cube"), get_task("pick_cube_vision")
SPEC = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
SERL = (sys.executable, "-m", "serl_cli")


def train(processes: Any, root: Path, *arguments: str) -> Any:
    """Start `serl train` with few steps and no pictures, in the folder `root`."""
    command = f'cd "{root}" && exec "$@"'
    options = ("--no-report", "--eval-episodes", "2", "--eval-every", "100000", "--demos", "2", *arguments)
    return processes.start("sh", "-c", command, "sh", *SERL, "train", *options)


@pytest.mark.timeout(480)  # as the waits below: on a busy machine it is starting, over and over
def test_training_survives_kills_of_actor_and_learner_and_can_be_resumed(processes: Any, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "kills"
    learning = load_learning("", VISION)
    spec = transition_spec(VISION, learning, find_encoder(VISION, learning, simulated=True))
    training = train(processes, tmp_path, VISION.name, "--name", "kills", "--max-steps", "700")
    for node in ("actor", "learner", "scripted_human", "reward"):
        before = wait_for(lambda: online(run, spec), training)
        wait_for(lambda before=before: online(run, spec) > before + 40, training)
        os.kill(wait_for(lambda node=node: pids(run, node), training)[-1], signal.SIGKILL)
    assert training.wait(240.0) == 1, training.output()  # the goal was not reached: no evaluation was due
    assert "Traceback" not in training.output()
    result = json.loads((run / "result.json").read_text())
    assert result["termination_reason"] == "max_env_steps"
    assert result["autonomy"]["led_steps"] == 0.0  # without --interventions
    assert read_metrics(run)["autonomy/episodes"].value[-1] == result["autonomy"]["episodes"] <= 20
    stored = online(run, spec)
    assert 700 <= stored <= 700 + TASK.horizon
    assert len(pids(run, "learner")) == 2

    resumed = train(processes, tmp_path, "--resume", "kills", "--max-steps", "800")
    assert resumed.wait(120.0) == 1, resumed.output()
    assert 800 <= online(run, spec) <= 800 + TASK.horizon
    steps = read_metrics(run)["learner/updates"].value
    assert (np.diff(steps) >= 0).sum() >= len(steps) - 3, "updates go on from where they were"

    command = f'cd "{tmp_path}" && exec "$@"'
    evaluation = processes.start("sh", "-c", command, "sh", *SERL, "eval", "kills", "--episodes", "2")
    assert evaluation.wait(60.0) == 0, evaluation.output()
    assert "of 2 episodes succeed" in evaluation.output()


@pytest.mark.timeout(480)  # as the waits below
@pytest.mark.parametrize(("backend", "before_acting"), [("jax", 20_000), ("torch", 4_000)])  # seconds of updates
def test_a_learner_killed_while_it_pretrains_does_it_again_and_then_its_policy_acts(
    ros: Any, processes: Any, tmp_path: Path, backend: str, before_acting: int
) -> None:
    if backend == "torch":
        pytest.importorskip("torch", reason="./serl setup torch")
    run = tmp_path / "runs" / "cloned"
    heard: list[PolicyParameters] = []
    ros.node().create_subscription(PolicyParameters, "learner/policy", heard.append, LATCHED)
    values = {"backend": backend, "updates_before_acting": before_acting, "batch_size": 16, "bc.hidden_sizes": "[16]"}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    training = train(processes, tmp_path, TASK.name, "--learning", "bc", "--name", "cloned", "--max-steps", "60", *sets)
    # A policy comes after each 8 updates: what was heard last is of this very moment.
    ros.spin_until(lambda: heard and heard[-1].updates > 0, 90.0, "the first updates on demonstrations")
    (learner,) = pids(run, "learner")
    os.kill(learner, signal.SIGKILL)
    first, updates = heard[-1].session, heard[-1].updates
    assert updates < before_acting
    assert online(run, SPEC) == 0
    ros.spin_until(lambda: heard[-1].session != first and heard[-1].updates >= before_acting, 180.0, "all updates")
    assert training.wait(120.0) == 1, training.output()  # two demonstrations do not reach the goal
    assert "Traceback" not in training.output()
    assert len(pids(run, "learner")) == 2
    assert json.loads((run / "result.json").read_text())["termination_reason"] == "max_env_steps"
    assert online(run, SPEC) >= 60
    assert sum(chunk.last for chunk in chunks(run, SPEC) if chunk.demonstration) == 2, "what was shown is stored once"


@pytest.mark.parametrize("moment", ["starting", "demonstrations", "training"])
def test_ctrl_c_ends_everything_with_one_line(processes: Any, tmp_path: Path, moment: str) -> None:
    run = tmp_path / "runs" / "stop"
    training = train(processes, tmp_path, TASK.name, "--name", "stop", "--max-steps", "100000")
    if moment == "starting":
        wait_for(lambda: (run / "log" / "launch.log").exists() and pids(run, "learner"), training)
    elif moment == "demonstrations":
        wait_for(lambda: "demonstrations" in training.output(), training)
    else:
        wait_for(lambda: online(run, SPEC) > 60, training)
    training.send(signal.SIGINT)
    assert training.wait(30.0) == 130, training.output()
    assert "Traceback" not in training.output()
    assert training.output().rstrip().splitlines()[-1].startswith("serl:"), training.output()
    started = [pid for node in ("mujoco_bridge", "arm_controller", "actor", "learner") for pid in pids(run, node)]
    assert started
    assert "SIGKILL" not in (run / "log" / "launch.log").read_text()
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_demonstrations_of_another_task_end_training_with_one_line(processes: Any, tmp_path: Path) -> None:
    with DemonstrationFile(tmp_path / "other.serl", TransitionSpec({"state": ((3,), "float32")}, 4)):
        pass
    arguments = ("--name", "other", "--demo-file", str(tmp_path / "other.serl"))
    training = train(processes, tmp_path, TASK.name, *arguments)
    assert training.wait(90.0) == 1, training.output()
    assert "Traceback" not in training.output()
    assert re.search(r"other\.serl: expected state: float32 \(14,\); found state: float32 \(3,\)", training.output())


def test_demonstrations_recorded_once_are_learned_from_with_another_encoder(processes: Any, tmp_path: Path) -> None:
    file = tmp_path / "seen.serl"
    recording = processes.start(*SERL, "record", VISION.name, "--episodes", "2", "--out", str(file))
    assert recording.wait(90.0) == 0, recording.output()
    recorded = sum(map(len, read_demonstrations(file, transition_spec(VISION, load_learning("", VISION), None))))

    changed = {"weights": "random", "views": 3}
    sets = [word for key, value in changed.items() for word in ("--set", f"vision.encoder.{key}={value}")]
    training = train(
        processes, tmp_path, VISION.name, "--name", "seen", "--max-steps", "60", "--demo-file", str(file), *sets
    )
    assert training.wait(120.0) == 1, training.output()  # the goal was not reached: no evaluation was due
    assert "Traceback" not in training.output()
    learning = load_learning("", VISION)
    vision = replace(learning.vision, encoder=replace(learning.vision.encoder, **changed))  # type: ignore[arg-type]
    other = replace(learning, vision=vision)
    spec = transition_spec(VISION, other, find_encoder(VISION, other, simulated=True))
    assert spec.observation["front"].shape[0] == 3
    run = tmp_path / "runs" / "seen"
    assert sum(len(chunk) for chunk in chunks(run, spec) if chunk.demonstration) == recorded
    assert online(run, spec) >= 60


@pytest.mark.timeout(300)
def test_an_imported_policy_is_improved_and_every_observation_has_its_base_action(
    processes: Any, tmp_path: Path
) -> None:
    file, run = tmp_path / "base.safetensors", tmp_path / "runs" / "better"
    file.write_bytes(create_agent(7, SPEC, load_learning("", TASK)).policy_snapshot().to_bytes())
    words = ("--name", "better", "--max-steps", "250", "--interventions", "--from-policy", f"serl:{file}")
    training = train(processes, tmp_path, TASK.name, *words)
    learning = load_learning("", TASK)
    improving = replace(learning, sac=replace(learning.sac, improve="proposals"))
    spec = transition_spec(TASK, improving, None)
    wait_for(lambda: online(run, spec) > 150, training)
    for node in ("learner", "actor"):
        os.kill(pids(run, node)[-1], signal.SIGKILL)
    assert training.wait(120.0) == 1, training.output()  # the goal was not reached: no evaluation was due
    assert "Traceback" not in training.output()
    base = make_policy(PolicySnapshot.from_bytes(file.read_bytes()))
    stored = chunks(run, spec)
    assert any(chunk.demonstration for chunk in stored)
    assert any(chunk.intervention.any() for chunk in stored if not chunk.demonstration)
    for chunk in stored:
        expected = [base.act({"state": state}, deterministic=True) for state in chunk.observation["state"]]
        np.testing.assert_allclose(chunk.observation["base_action"], expected, atol=1e-6)
    first = next(chunk for chunk in stored if not chunk.demonstration)
    own = ~first.intervention
    np.testing.assert_allclose(first.action[own], first.observation["base_action"][:-1][own], atol=1e-3)


def test_an_e_stop_and_a_driver_in_fault_pause_training_until_that_is_over(
    ros: Any, processes: Any, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "stop"
    paused_reports: list[str] = []

    def on_diagnostics(message: DiagnosticArray) -> None:
        paused_reports.extend(
            status.message
            for status in message.status
            if status.name == "actor: job" and status.message.startswith("paused by ")
        )

    node = ros.node()
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    driver = node.create_publisher(DiagnosticStatus, "driver/status", LATCHED)
    training = train(processes, tmp_path, TASK.name, "--name", "stop", "--max-steps", "100000")
    wait_for(lambda: online(run, SPEC) > 60, training)
    assert processes.start(*SERL, "estop", "--graph", "stop").wait() == 0
    ros.spin_until(lambda: paused_reports, 30.0, "the actor to say on /diagnostics that it is paused")
    paused = online(run, SPEC)
    said = len(paused_reports)
    ros.spin_until(lambda: len(paused_reports) >= said + 2, 30.0, "the actor to say so twice more")
    assert online(run, SPEC) == paused
    assert all(report.startswith("paused by the e-stop") for report in paused_reports)
    assert processes.start(*SERL, "reset-estop", "--graph", "stop").wait() == 0
    wait_for(lambda: online(run, SPEC) > paused + 60, training)

    paused_reports.clear()
    state = KeyValue(key="state", value="fault")
    driver.publish(DiagnosticStatus(level=DiagnosticStatus.ERROR, message="arm: fault: no cable", values=[state]))
    ros.spin_until(lambda: len(paused_reports) >= 2, 30.0, "the actor to say on /diagnostics that it is paused")
    assert paused_reports[-1] == (
        "paused by the driver, which moves nothing: arm: fault: no cable; see to that, then ./serl driver connect"
    )
    paused = online(run, SPEC)
    ros.spin_until(lambda: len(paused_reports) >= 4, 30.0, "the actor to say so twice more")
    assert online(run, SPEC) == paused
    driver.publish(DiagnosticStatus(level=DiagnosticStatus.OK, message="arm: holding"))
    wait_for(lambda: online(run, SPEC) > paused + 60, training)

    paused_reports.clear()
    driver.publish(DiagnosticStatus(level=DiagnosticStatus.ERROR, message="arm: fault: no cable", values=[state]))
    ros.spin_until(lambda: paused_reports, 30.0, "the actor to say on /diagnostics that it is paused")
    paused = online(run, SPEC)
    node.destroy_publisher(driver)  # nobody is left who could take it back
    wait_for(lambda: online(run, SPEC) > paused + 60, training)


def test_what_a_person_takes_back_of_a_training_is_void_over_a_kill_of_the_learner(
    ros: Any, processes: Any, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "rewind"
    node, discarded = ros.node(), [0.0]

    def on_metrics(message: Metrics) -> None:
        discarded.extend(v for n, v in zip(message.names, message.values, strict=True) if n == "learner/discarded")

    node.create_subscription(Metrics, "metrics", on_metrics, 50)
    buttons = node.create_publisher(TeleopEvent, "teleop/event", 10)
    training = train(processes, tmp_path, TASK.name, "--name", "rewind", "--max-steps", "100000")
    wait_for(lambda: online(run, SPEC) > 60, training)
    nodes = {"actor", "arm_controller", "learner", "mujoco_bridge", "reward"}
    ros.spin_until(lambda: nodes <= set(node.get_node_names()), 30.0, f"the nodes {nodes}")
    assert denied(node, load_policy()) == [], "each node does what config/security/policy.xml allows, and no more"

    def press() -> list[Any]:
        buttons.publish(TeleopEvent(device="test", event=TeleopEvent.DISCARD))
        return tombstones(run, SPEC)

    ros.spin_until(press, 60.0, "what was stored of an episode to be discarded")
    ros.spin_until(lambda: discarded[-1] > 0.0, 60.0, "the learner to say so")
    os.kill(pids(run, "learner")[-1], signal.SIGKILL)
    before, said = online(run, SPEC), len(discarded)
    wait_for(lambda: online(run, SPEC) > before + 40, training)
    ros.spin_until(lambda: len(discarded) > said + 1, 60.0, "the new learner to say so, too")
    assert min(discarded[said + 1 :]) > 0.0


@pytest.fixture
def lockstep(ros_domain: int, tmp_path: Path) -> Iterator[GraphSession]:
    arguments = {"task": TASK.name, "teleop": "scripted", "learning_nodes": "false"}
    with GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        yield session


def environment(session: GraphSession, **options: Any) -> GraphEnv:
    return GraphEnv(TASK, node=session.client.node, executor=session.client.executor, reset_timeout=60.0, **options)


def test_the_same_seed_and_actions_repeat_an_episode_bit_for_bit(lockstep: GraphSession) -> None:
    env = environment(lockstep)

    def episode(seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        states = [env.reset(seed=seed)[0]["state"].tobytes()]
        for _ in range(20):
            action = rng.uniform(-1.0, 1.0, 4).astype(np.float32)
            observation, reward, *_, info = env.step(action)
            states.append(observation["state"].tobytes() + np.float64(reward).tobytes())
            states.append(info["executed_action"].tobytes())
        return states

    first, other, again = episode(3), episode(4), episode(3)
    assert first == again
    assert first != other


def test_the_graph_and_the_environment_without_ros_are_the_same_world(lockstep: GraphSession) -> None:
    import gymnasium as gym
    import serl_sim.envs  # noqa: F401 - registers the environments

    graph, direct = environment(lockstep), gym.make("PandaPickCube-v0")
    rng = np.random.default_rng(0)
    here, _ = graph.reset(seed=5)
    there, _ = direct.reset(seed=5)
    np.testing.assert_allclose(here["state"], there["state"], atol=1e-6)
    for _ in range(30):
        action = rng.uniform(-1.0, 1.0, 4).astype(np.float32)
        here, reward, terminated, truncated, _ = graph.step(action)
        there, *rest, _ = direct.step(action)
        np.testing.assert_allclose(here["state"], there["state"], atol=1e-5)
        assert [reward, terminated, truncated] == rest


def test_a_person_who_demonstrates_succeeds_and_every_step_is_theirs(lockstep: GraphSession, tmp_path: Path) -> None:
    env = environment(lockstep)
    wins = 0
    for seed in range(5):
        env.reset(seed=seed, options={"mode": EpisodeMode.DEMONSTRATION, "human_expected": True})
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(np.zeros(4, np.float32))
            # Only a machine that stalls for a second excuses a step without them, and then the controller says so.
            assert info["intervention"] or "no answer of the person" in (tmp_path / "log" / "launch.log").read_text()
            over = terminated or truncated
        wins += info["success"]
    assert wins >= 4


def test_the_graph_is_a_proper_gymnasium_environment(lockstep: GraphSession) -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(environment(lockstep), skip_render_check=True, skip_close_check=True)


def test_in_real_time_the_arm_holds_when_nobody_commands(ros_domain: int, tmp_path: Path) -> None:
    arguments = {"task": TASK.name, "teleop": "none", "learning_nodes": "false", "real_time_factor": "1.0"}
    with GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        env = environment(session, lockstep=False)
        client = session.client
        safety: list[SafetyStatus] = []
        client.node.create_subscription(SafetyStatus, "arm/safety", safety.append, LATCHED)
        env.reset(seed=0)
        stamps: list[float] = []  # [s] of the arm's states
        client.node.create_subscription(
            ArmState, "arm/state", lambda message: stamps.append(nanoseconds(message.header.stamp) / 1e9), LOOP_1
        )
        assert client.spin_until(lambda: bool(stamps), 5.0)
        started, began = time.monotonic(), stamps[-1]
        for _ in range(10):
            observation, *_ = env.step(np.array([0.0, 0.5, 0.0, 1.0], np.float32))
        assert stamps[-1] - began > 0.8, "ten steps of 0.1 s"
        assert time.monotonic() - started > 0.8 * (stamps[-1] - began), "and no faster than the clock on the wall"
        moving = observation["state"][4]
        assert abs(moving) > 0.05
        # The actor is gone now: no more commands.
        assert client.spin_until(lambda: safety[-1].mode == SafetyStatus.MODE_IDLE, 5.0)
        assert client.spin_until(lambda: np.abs(env.observe()["state"][3:6]).max() < 0.005, 10.0), "it comes to rest"
        before, rest = env.observe()["state"], stamps[-1]
        assert client.spin_until(lambda: stamps[-1] > rest + 0.5, 10.0)
        np.testing.assert_allclose(env.observe()["state"][:6], before[:6], atol=0.01)


def test_in_real_time_nothing_is_done_on_an_old_picture(ros_domain: int, tmp_path: Path) -> None:
    arguments = {"task": TASK.name, "teleop": "none", "learning_nodes": "false", "real_time_factor": "1.0"}
    with GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        node = session.client.node
        camera = node.create_publisher(Image, "side/color/image_raw", 1)
        picture = np.full((48, 64, 3), 7, np.uint8)

        def look() -> None:
            camera.publish(image_message(picture, node.get_clock().now().to_msg(), "side_color_optical_frame"))

        eye = node.create_timer(0.05, look)
        task = replace(TASK, cameras={"side": CameraView(size=(16, 16))})
        env = GraphEnv(
            task,
            node=node,
            executor=session.client.executor,
            lockstep=False,
            reset_timeout=30.0,
            step_timeout=3.0,
            camera_timeout=0.5,
        )
        observation, _ = env.reset(seed=0)
        assert (observation["side"] == 7).all()
        rest = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
        for _ in range(3):
            env.step(rest)
        eye.cancel()  # the camera is unplugged
        with pytest.raises(GraphError, match=r"pictures on side/color/image_raw \(newest picture is .* s old\)"):
            for _ in range(10):
                env.step(rest)
        assert env.stale_cameras()
        eye.reset()
        env.wait_for_cameras(5.0)
        env.reset(seed=1)
        env.step(rest)
