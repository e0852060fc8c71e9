# SPDX-License-Identifier: Apache-2.0
"""An arm without a simulator behind it: it moves home by itself, a person resets the world and judges.

The arm is that of the MuJoCo bridge in real time, whose `sim/reset` and `truth` are renamed to what nobody looks at.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

try:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
    from serl_ros.execution.executor import FastExecutor
    from serl_ros.qos import LATCHED, RELIABLE_1
    from serl_training.env.graph_connection import GraphConnection, GraphError
    from serl_training.env.graph_env import GraphEnv
    from serl_training.env.graph_reset import HandReset, PersonReset, PersonResetSettings
    from serl_training.env.graph_turns import TurnReset
    from std_srvs.srv import SetBool, Trigger

    from serl_interfaces.action import MoveTo, Record, ResetEpisode
    from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, SafetyStatus, TeleopEvent
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_training.actor.rollout import ChunkFormat, run_episode
from serl_training.env.episode import EpisodeMode, EpisodeStart

from serl_tasks import get_task

HOME = (0.5, 0.0, 0.25)  # [m] tool, as config/robots/panda.yaml says of the configuration
TASK = """\
name: feeling
extends: pick_cube
state:
  - {name: tcp_position, shift: [0.5, 0.0, 0.15], scale: [0.15, 0.15, 0.15]}
  - {name: gripper_target, shift: [0.04], scale: [0.04]}
"""


class Person:
    """Says that the world is ready whenever asked, and after some steps that the episode has succeeded."""

    def __init__(self, ros: Any) -> None:
        self.ros, self.node = ros, ros.node("person")
        self.modes: list[int] = []
        self.asked: list[str] = []
        self.node.create_subscription(EpisodeStatus, "episode", lambda status: self.modes.append(status.mode), LATCHED)
        self.clients = {
            name: self.node.create_client(Trigger, name)
            for name in ("episode/ready", "reward/success", "reward/failure")
        }
        self.calls: list[Any] = []

    def call(self, service: str) -> Any:
        """Begin to call a service; the answer is there once the environment was spun."""
        self.calls.append(self.clients[service].call_async(Trigger.Request()))
        return self.calls[-1]

    def look(self) -> None:
        """Look at the graph for a moment."""
        self.ros.executor.spin_once(timeout_sec=0.0)

    def hear(self, what: str) -> None:
        """Be told what the reset waits for, and put everything in place."""
        if not what or what in self.asked:
            return
        self.asked.append(what)
        if "a person" in what:
            self.call("episode/ready")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A task whose state is what the arm feels of itself, in a folder of its own."""
    (tmp_path / "config/tasks").mkdir(parents=True)
    (tmp_path / "config/tasks/feeling.yaml").write_text(TASK)
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    return "feeling"


@pytest.fixture
def arm(processes: Any, ros: Any, task: str) -> Iterator[Person]:
    """An arm, its controller and a person."""
    hidden = ("-r", "sim/reset:=hidden/reset", "-r", "truth:=hidden/truth")
    start(processes, "serl_sim.mujoco_bridge_node", task, "-p", "real_time_factor:=1.0", *hidden)
    start(processes, "serl_robots.arm_controller_node", task, "-p", "lockstep:=false")
    processes.start(sys.executable, "-c", "from serl_training.human_reward_node import main; main()", "--ros-args")
    person = Person(ros)
    yield person
    assert not person.node.get_publishers_info_by_topic("/truth")
    assert "/sim/reset" not in dict(person.node.get_service_names_and_types())


def start(processes: Any, module: str, task: str, *arguments: str) -> Any:
    command = (sys.executable, "-c", f"from {module} import main; main()", "--ros-args", "-p", f"task:={task}")
    return processes.start(*command, *arguments)


class Down:
    """Moves the tool down with the gripper closed."""

    def reset(self) -> None:
        pass

    def act(self, observation: dict, info: Mapping[str, Any]) -> tuple[np.ndarray, int]:
        return np.array([0.0, 0.0, -0.5, -1.0], np.float32), 0


def test_episodes_with_a_person_instead_of_a_simulator(arm: Person, task: str, opened: Any) -> None:
    def reset(graph: Any, timeout: float) -> PersonReset:
        return PersonReset(graph, timeout, notice=arm.hear)

    env = opened(GraphEnv(task, lockstep=False, truth=False, reset=reset, reset_timeout=60.0, check=arm.look))
    spec = TransitionSpec.from_spaces(env.observation_space, env.action_space)
    chunks: list[Chunk] = []
    begins = []

    def before_step() -> None:
        arm.look()
        if env.inputs.step == 0:
            begins.append((env.arm_sample.tcp.position, env.arm_sample.gripper_width))
        if env.inputs.step == 5:
            arm.call(word)

    for number, word in enumerate(("reward/success", "reward/failure", "reward/success"), start=1):
        summary = run_episode(
            env,
            Down(),
            EpisodeStart(EpisodeMode.TRAINING, number, seed=0),
            ChunkFormat(spec, size=100),
            on_chunk=chunks.append,
            before_step=before_step,
        )
        assert summary.success is (word == "reward/success")
        assert 6 <= summary.length < env.task.horizon
        assert env.arm_sample.tcp.position[2] < HOME[2] - 0.05, "it has moved"
    assert not env.objects
    env.close()
    for chunk in chunks:
        assert chunk.last and chunk.mask[-1] == 0.0 and (chunk.mask[:-1] == 1.0).all()
        assert chunk.success is bool(chunk.reward[-1] == 1.0)
    for position, width in begins:
        np.testing.assert_allclose(position, HOME, atol=0.01)
        assert width > 0.07, "the gripper let go"
    idle, training = EpisodeStatus.MODE_IDLE, EpisodeStatus.MODE_TRAINING
    arm.ros.spin_until(lambda: len(arm.modes) >= 6)
    assert arm.modes == [idle, training] * 3, "judges are told of an episode once the world is ready for it"
    assert [what for what in arm.asked if "a person" in what] == [
        f"a person, who puts everything in place for episode {number} and calls episode/ready" for number in (1, 2, 3)
    ]
    assert all(call.result().success for call in arm.calls if call.done())


def test_a_person_leads_the_arm_to_the_start_by_hand_and_says_so_by_a_button(
    arm: Person, task: str, opened: Any
) -> None:
    device = arm.node.create_publisher(ActionCommand, "teleop/action", RELIABLE_1)
    buttons = arm.node.create_publisher(TeleopEvent, "teleop/event", 10)
    heights: list[float] = []
    said: list[str] = []

    def reset(graph: Any, timeout: float) -> HandReset:
        def lead(what: str) -> None:
            """Down by 3 cm; then the person lets go and presses the button."""
            said.append(what)
            if not what:
                return
            heights.append(float(graph.inputs.sample.tcp.position[2]))
            lowers = heights[-1] > heights[0] - 0.03
            action = [0.0, 0.0, -1.0 if lowers else 0.0, 1.0]
            device.publish(ActionCommand(active=lowers, action=action, sender="hand", priority=1))
            if not lowers:
                buttons.publish(TeleopEvent(device="hand", event=TeleopEvent.READY))

        return HandReset(graph, timeout, notice=lead, simulated=False)

    env = opened(GraphEnv(task, lockstep=False, truth=False, reset=reset, reset_timeout=60.0, check=arm.look))
    env.reset(seed=0)
    assert env.arm_sample.tcp.position[2] < heights[0] - 0.025, "nothing has moved it but the person"
    assert said[0].startswith("a person, who leads the arm to where episode 1 begins")
    assert said[-1] == ""
    env.step(np.array([0.0, 0.0, 0.0, 1.0], np.float32))
    env.close()


def test_of_a_pair_a_person_places_the_objects_once_and_when_asked_to(
    arm: Person, task: str, tmp_path: Path, opened: Any
) -> None:
    (tmp_path / "config/tasks/unfeeling.yaml").write_text("name: unfeeling\nextends: feeling\nhorizon: 5\n")

    def reset(graph: Any, timeout: float) -> TurnReset:
        world = PersonReset(graph, timeout, notice=arm.hear)
        return TurnReset(graph, timeout, world, truth=False, patience=30.0)

    place = arm.node.create_client(Trigger, "episode/place")
    env = opened(
        GraphEnv(
            task, partner="unfeeling", lockstep=False, truth=False, reset=reset, reset_timeout=60.0, check=arm.look
        )
    )
    turns = env._reset
    assert isinstance(turns, TurnReset)
    name = turns.first()
    assert name == task, "where nobody knows the objects, the first one begins"
    turn_of, starts, words = [], [], ("reward/success", "", "reward/success", "")
    for number, word in enumerate(words, start=1):
        env.reset(seed=number, options={"task": name})
        turn_of.append(name)
        starts.append((env.arm_sample.tcp.position, env.arm_sample.gripper_width))
        terminated = truncated = False
        while not (terminated or truncated):
            arm.look()
            if word and env.inputs.step == 2:
                arm.call(word)
            *_, terminated, truncated, info = env.step(np.array([0.0, 0.0, -0.5, -1.0], np.float32))
            if not word and env.inputs.step == 5:
                break
        if number == 3:
            asked = place.call_async(Trigger.Request())
            env.connection.wait(asked.done, 10.0, lambda: "episode/place")
        name = turns.after(name, success=bool(info["success"]))
    env.close()
    assert turn_of == [task, "unfeeling", "unfeeling", task], "the other one after a success, else the same again"
    placed = [what for what in arm.asked if "a person" in what]
    assert [what.partition(" for ")[2].partition(" and ")[0] for what in placed] == [
        f"episode 1 of {task}",
        f"episode 4 of {task}",
    ]
    assert turns.resets == 2
    start = get_task(task).start
    for position, width in starts[1:3]:
        assert (abs(position - start.tcp_position) < np.array(start.spread) + 0.01).all()
        assert width > 0.07, "the gripper let go"


@pytest.mark.timeout(240)  # as the waits below, on a busy machine
def test_the_actor_resets_with_a_person_and_says_what_it_waits_for(arm: Person, processes: Any, task: str) -> None:
    options = [word for name in ("lockstep:=false", "reset:=person", "truth:=false") for word in ("-p", name)]
    actor = start(processes, "serl_training.actor_node", task, *options)
    ros, jobs = arm.ros, []
    arm.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda message: jobs.extend(each.message for each in message.status if each.name == "actor: job"),
        10,
    )
    client = ActionClient(arm.node, ResetEpisode, "episode/reset")
    ready_service = arm.clients["episode/ready"]
    mover = ActionClient(arm.node, MoveTo, "arm/move_to")
    states: list[ArmState] = []
    arm.node.create_subscription(ArmState, "arm/state", states.append, 1)
    # The actor waits for its neighbours for so long only, and this test waits for these: they begin more slowly.
    ros.spin_until(lambda: mover.server_is_ready() and states, 60.0, "the arm controller")
    ros.spin_until(lambda: client.server_is_ready() and ready_service.service_is_ready(), 60.0, "the actor")
    early = arm.call("episode/ready")
    ros.spin_until(early.done, what="an answer")
    assert (early.result().success, early.result().message) == (False, "no episode waits for a person")
    sending = client.send_goal_async(ResetEpisode.Goal(seed=0, episode=7))
    ros.spin_until(sending.done)
    ending = sending.result().get_result_async()
    ros.spin_until(lambda: any("a person" in job for job in jobs) or ending.done(), 60.0, "the actor to ask")
    assert not ending.done(), ending.result().result.message
    assert jobs[-1] == "waiting for a person, who puts everything in place for episode 7 and calls episode/ready"
    ready = arm.call("episode/ready")
    ros.spin_until(lambda: ending.done() and ready.done(), 30.0, "the end of the reset, and the answer to the person")
    assert ready.result().success
    assert ending.result().result.success, ending.result().result.message
    ros.spin_until(lambda: jobs[-1] == "idle")
    assert "waiting for a person, who puts everything in place for episode 7" in actor.output()


@pytest.mark.timeout(240)
def test_a_pause_leaves_episode_and_reset_and_the_graph_knows_of_no_episode_until_it_is_over(
    arm: Person, processes: Any, task: str, tmp_path: Path
) -> None:
    options = ("lockstep:=false", "reset:=person", "truth:=false", "scripted_human:=false")
    actor = start(processes, "serl_training.actor_node", task, *(word for name in options for word in ("-p", name)))
    ros, jobs = arm.ros, [""]
    arm.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda message: jobs.extend(each.message for each in message.status if each.name == "actor: job"),
        10,
    )
    client, mover = ActionClient(arm.node, Record, "record"), ActionClient(arm.node, MoveTo, "arm/move_to")
    switch = arm.node.create_client(SetBool, "episode/pause")
    states: list[ArmState] = []
    arm.node.create_subscription(ArmState, "arm/state", states.append, 1)
    ros.spin_until(lambda: mover.server_is_ready() and states, 60.0, "the arm controller")
    ros.spin_until(lambda: client.server_is_ready() and switch.service_is_ready(), 60.0, "the actor")
    client.send_goal_async(Record.Goal(episodes=1, path=str(tmp_path / "recorded.serl")))

    def pause(wanted: bool) -> None:
        answer = switch.call_async(SetBool.Request(data=wanted))
        ros.spin_until(answer.done, what="the answer of episode/pause")

    def says(what: str) -> None:
        ros.spin_until(lambda: what in jobs[-1], 60.0, lambda: f"{what!r}: {actor.output()}")

    says("waiting for a person, who puts everything in place")
    pause(True)
    says("paused by a person")
    pause(False)
    says("waiting for a person, who puts everything in place")
    arm.call("episode/ready")
    ros.spin_until(lambda: arm.modes and arm.modes[-1] == EpisodeStatus.MODE_DEMONSTRATION, 30.0, "the episode")
    pause(True)
    says("paused by a person")
    ros.spin_until(lambda: arm.modes[-1] == EpisodeStatus.MODE_IDLE, 10.0, "the end of the episode")
    stop, release = arm.node.create_client(SetBool, "arm/estop"), arm.node.create_client(Trigger, "arm/reset_estop")
    ros.spin_until(lambda: stop.service_is_ready() and release.service_is_ready())
    stop.call_async(SetBool.Request(data=True))
    ros.spin_until(lambda: states[-1].mode == SafetyStatus.MODE_ESTOP, what="the arm to stop")
    pause(False)
    says("paused by the e-stop")
    pause(True)
    release.call_async(Trigger.Request())
    ros.spin_until(lambda: states[-1].mode != SafetyStatus.MODE_ESTOP, what="the arm to be released")
    said = len(jobs)
    ros.spin_until(lambda: len(jobs) > said + 2, 30.0, "what the actor waits for")
    assert "paused by a person" in jobs[-1]
    asked_at = time.monotonic()
    actor.send(signal.SIGINT)
    actor.wait()
    assert time.monotonic() - asked_at < 5.0, "a paused actor ends as any other; 2 s on a machine that is not busy"


def test_a_person_who_does_not_come_is_waited_for_with_an_end(arm: Person, task: str, opened: Any) -> None:
    def reset(graph: Any, timeout: float) -> PersonReset:
        return PersonReset(graph, timeout, PersonResetSettings(timeout=0.5))

    env = opened(GraphEnv(task, lockstep=False, truth=False, reset=reset, reset_timeout=60.0))
    with pytest.raises(GraphError, match=r"waited 0\.\d s for a person, who puts .* calls episode/ready"):
        env.reset(seed=0)
    env.close()
    env.close()  # once more, which does nothing


def test_a_motion_that_is_accepted_too_late_is_cancelled(ros: Any) -> None:
    asked: list[str] = []

    def accept(_goal: Any) -> Any:
        asked.append("goal")
        return GoalResponse.ACCEPT

    def cancel(_goal: Any) -> Any:
        asked.append("cancel")
        return CancelResponse.ACCEPT

    node = ros.node("slow_arm")  # nobody spins it while the reset waits
    client = ros.node("actor")
    ros.executor.remove_node(client)
    server = ActionServer(
        node,
        MoveTo,
        "arm/move_to",
        lambda _goal: MoveTo.Result(),
        goal_callback=accept,
        cancel_callback=cancel,
        handle_accepted_callback=lambda _goal: None,  # it moves until it is cancelled
    )
    connection = GraphConnection(client, FastExecutor(context=ros.context), "", lambda: None)
    graph: Any = SimpleNamespace(
        connection=connection,
        idle=lambda: None,
        inputs=SimpleNamespace(arm=object(), step=0),
        task=SimpleNamespace(arm_names=("",)),
    )
    reset = PersonReset(graph, 0.5)
    ros.spin_until(reset._arm._movers[""].server_is_ready)
    with pytest.raises(GraphError, match="the answer of arm/move_to"):
        reset.prepare(EpisodeStart(EpisodeMode.TRAINING, 1, seed=0))
    assert not asked
    ros.executor.add_node(client)
    ros.spin_until(lambda: asked == ["goal", "cancel"], 10.0, "the goal to be cancelled")
    server.destroy()


class Placing:
    """A world that does whatever it is asked to, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, _start: EpisodeStart) -> None:
        self.asked.append("prepare")

    def begin(self, _start: EpisodeStart) -> int:
        self.asked.append("begin")
        return 1

    def keep(self, _start: EpisodeStart) -> int:
        self.asked.append("keep")
        return 2


def test_who_asks_for_a_reset_while_an_episode_begins_gets_it_before_the_next_one(ros: Any) -> None:
    node = ros.node("actor")
    ros.executor.remove_node(node)
    connection = GraphConnection(node, FastExecutor(context=ros.context), "", lambda: None)
    moves: list[Any] = []

    def move(goal: Any) -> Any:
        moves.append(goal.request)
        goal.succeed()
        return MoveTo.Result(success=True)

    server = ActionServer(node, MoveTo, "arm/move_to", move)
    relocate = get_task("relocate_forward")
    tool = relocate.middle_start
    arm = SimpleNamespace(header=SimpleNamespace(frame_id="panda_link0"))
    inputs = SimpleNamespace(
        arm=arm, state_of=lambda _: arm, sample=SimpleNamespace(tcp=tool), step=0, problem="", objects={}
    )
    graph: Any = SimpleNamespace(connection=connection, idle=lambda: None, inputs=inputs, task=relocate)
    world = Placing()
    turns = TurnReset(graph, 30.0, world, truth=True, patience=10.0)
    first, second = (EpisodeStart(EpisodeMode.TRAINING, number, seed=0, task=relocate.name) for number in (1, 2))

    turns.prepare(first)
    assert len(moves) == 1, "to where the tool starts"
    asked = node.create_client(Trigger, "episode/place").call_async(Trigger.Request())
    connection.wait(asked.done, 30.0, lambda: "episode/place")
    assert asked.result().success
    assert turns.begin(first) == 2
    assert (world.asked, turns.resets) == (["keep"], 0)

    turns.prepare(second)
    assert turns.begin(second) == 1
    assert (world.asked, turns.resets) == (["keep", "prepare", "begin"], 1)
    server.destroy()


def test_a_task_that_needs_the_truth_says_so_at_once(processes: Any) -> None:
    with pytest.raises(ValueError, match=r"task pick_cube: its state has poses of cube.*truth is false"):
        GraphEnv("pick_cube", truth=False)
    assert get_task("pick_cube_vision").observed_objects == ()
    actor = start(processes, "serl_training.actor_node", "pick_cube", "-p", "truth:=false")
    assert actor.wait() == 2
    assert actor.output().startswith("fatal: task pick_cube: its state has poses of cube")
