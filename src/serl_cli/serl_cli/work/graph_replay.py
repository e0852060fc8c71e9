# SPDX-License-Identifier: Apache-2.0
"""Recorded actions replayed by an arm, in simulation or in a graph that runs; every one passes the safety filter."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rich.console import Console
from serl_config.text import printable
from serl_launch.clients.client_node import Client
from serl_launch.clients.console_node import task_of
from serl_launch.errors import CommandError, Interrupted, UsageError
from serl_launch.graph_session import scratch_folder, simulated
from serl_launch.runs import Run
from serl_recording.episode import Episode, RecordingSpec
from serl_recording.format import Report
from serl_recording.registry import ReadSettings, format_of, open_recording
from serl_recording.replay import Outcome, check_actions, check_control, compare, distance
from serl_rl.spec import TransitionSpec
from serl_rl.storage.demonstrations import demonstration_about
from serl_training.actor.episode_numbers import ACTOR_ID, FIRST_EVALUATION
from serl_training.env.episode import EpisodeLost, EpisodeMode, Observation, arm_demonstrations_seed, episode_seed
from serl_training.env.graph_env import GraphEnv
from serl_training.env.graph_reset import PersonReset, SimulatorReset
from serl_training.link.contract import meaning_of

from serl_cli.names import check_task
from serl_cli.ranges import LARGEST_COUNT
from serl_cli.run_config import read_run_config
from serl_launch import domain
from serl_tasks import Task, get_task

_LOOK = 5.0
"""[s] that others who act are given to be discovered: whoever is not known yet counts as nobody."""
_MOST_LINES = 50
_MAX_DRIFT = 0.05
"""[m] from where it was recorded, at which a tool is caught at something, or began elsewhere."""
_OTHER_RATE = 0.05


def replay(
    path: Path,
    task: str,
    *,
    episode: int | None,
    successes: bool,
    seed: int | None,
    rate: float | None,
    unchecked: bool,
    rtf: float,
    viewer: bool,
    arm: bool,
    max_drift: float | None,
    graph: str,
    json_output: bool,
) -> None:
    """Replays a recording and says how far what came of it is from what was recorded.

    Args:
        path: of the recording.
        task: whose arm replays it.
        episode: number of the only one; None: all of them.
        successes: only episodes that succeeded.
        seed: of the recording's start states; None: what it says, or 0.
        rate: actions per second [Hz] of a recording that does not say it.
        unchecked: take a recording that does not say what its actions mean.
        rtf: real-time factor; 0: lockstep.
        viewer: whether MuJoCo's window opens.
        arm: replay on the arm of a graph that runs; a person puts its world back, or its simulator.
        max_drift: distance of the arm's tool from where it was recorded, beyond which it is stopped [m]; None: 0.05.
        graph: name of that graph.
        json_output: print JSON and nothing else on stdout.

    Raises:
        RecordingError: it cannot be read, or its actions are not those of the task. Nothing has moved.
        CommandError: there is no such episode, the graph failed, somebody else acts, the arm was stopped or is
            elsewhere, or something damaged was left out; what was compared until then is printed.
        UsageError: options that do not fit each other.
        Interrupted: a person pressed Ctrl-C.
    """
    check_task(task)
    if arm and (viewer or rtf):
        raise UsageError("--arm: the world runs already: leave --viewer and --rtf out")
    if graph and not arm:
        raise UsageError("--graph: names the graph of --arm; without --arm a simulation is started")
    if max_drift is not None and not arm:
        raise UsageError(
            "--max-drift: stops the arm of --arm; without it a simulation goes on, and says how far it is off"
        )
    reader = open_recording(path, ReadSettings(rate, task))
    expected = _spec_of(get_task(task))
    check_control(path, reader.spec, expected, unchecked=unchecked)
    console = Console(file=sys.stderr if json_output else sys.stdout)
    damage: list[str] = []

    def wanted(report: Report) -> Iterator[Episode]:
        for each in reader.episodes(report):
            if (episode is None or each.number == episode) and (each.success or not successes):
                yield each

    count = 0
    for each in wanted(lambda error: damage.append(str(error))):  # all of them, before the first moves anything
        check_actions(path, each)
        count += 1
    if not count:
        which = f"an episode {episode}" if episode is not None else "episodes"
        raise CommandError(f"{path}: expected {which}, found none", details=_bounded(damage))
    start_seed = _start_seeds(path, seed)
    outcomes: list[Outcome] = []
    try:
        with _env(console, task, arm=arm, graph=graph, rtf=rtf, viewer=viewer, seed=start_seed(None)) as env:
            for each in wanted(lambda _error: None):  # damage is known already
                watch = _ArmWatch(env, each, reader.spec, expected, max_drift or _MAX_DRIFT) if arm else None
                outcome = _replay_one(env, each, reader.spec, expected, path, start_seed(each), watch)
                outcomes.append(outcome)
                console.print(_line(outcome, expected.rate), highlight=False, soft_wrap=True, markup=False)
    except EpisodeLost as error:
        raise CommandError(f"replaying ended behind {len(outcomes)} episodes: {error}") from error
    except KeyboardInterrupt:
        rest = "the arm is held where it is" if arm else f"{path} is as it was"
        raise Interrupted(f"replaying interrupted behind {len(outcomes)} episodes; {rest}") from None
    finally:
        if json_output and outcomes:
            print(json.dumps([_numbers(outcome) for outcome in outcomes], indent=2))
    if not json_output:
        console.print(_summary(outcomes), highlight=False, soft_wrap=True, markup=False)
    if damage:
        raise CommandError(f"{path}: {len(damage)} damaged pieces were left out", details=_bounded(damage))


def refuse_other_actors(node: Node, *, own: bool) -> None:
    """Make sure that nobody else publishes actions, as far as a node has discovered the graph.

    Args:
        node: that looks.
        own: whether the node publishes actions itself.

    Raises:
        CommandError: somebody does, by name.
    """
    publishers = node.get_publishers_info_by_topic("policy/action")
    others = [f"{each.node_namespace.rstrip('/')}/{each.node_name}" for each in publishers]
    me = node.get_fully_qualified_name()
    if own and me in others:
        others.remove(me)  # once: another of this name is somebody else
    if others:
        raise CommandError(
            f"expected nobody else who acts, found {', '.join(sorted(others))}, publishing policy/action: start "
            "the graph with learning_nodes:=false, or end its actor"
        )


def _bounded(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return [printable(line) for line in lines[:_MOST_LINES]] + more


def _spec_of(task: Task) -> RecordingSpec:
    spec = TransitionSpec.from_spaces(task.observation_space, task.action_space)
    transitions = TransitionSpec(spec.observation, spec.action_dim, meaning=meaning_of(task))
    return RecordingSpec(transitions, 1.0 / task.control_period, task.name)


def _start_seeds(path: Path, seed: int | None) -> Callable[[Episode | None], int]:
    """Which start state an episode had, as the actor draws them from the seed of its run; without one the seed."""
    stored, in_run = _stored_seed(path)
    known = stored if seed is None else seed

    def of(episode: Episode | None) -> int:
        if episode is None:
            return known
        if not episode.demonstration:
            return episode_seed(known, f"training/{episode.actor}", episode.number)
        own = arm_demonstrations_seed(known, episode.actor) if in_run and episode.actor != ACTOR_ID else known
        return episode_seed(own, "demonstration", episode.number)

    return of


def _stored_seed(path: Path) -> tuple[int, bool]:
    """The seed that a run or a demonstration file says, 0 where it says none, and whether it is of a run.

    Who is not called as an actor is by itself has recorded as an arm of a fleet there.
    """
    run = Run(path)
    if run.config_file.is_file() and run.journal.is_dir():
        return read_run_config(run).plan.seed, True
    found = demonstration_about(path).get("seed") if format_of(path) == "serl" else None
    return (found if isinstance(found, int) and 0 <= found <= LARGEST_COUNT else 0), False


@contextmanager
def _env(
    console: Console, task: str, *, arm: bool, graph: str, rtf: float, viewer: bool, seed: int
) -> Iterator[GraphEnv]:
    """The environment whose arm replays: of a simulation that is started, or of a graph that runs."""
    if arm:
        domain.join(graph)
        with Client() as client:
            found = task_of(client)
            request = GetParameters.Request(names=["lockstep"])
            answer = client.call(GetParameters, "arm_controller/get_parameters", request)
            lockstep = bool(answer.values and answer.values[0].bool_value)
            if found != task:
                raise CommandError(f"expected a graph of {task}, found one of {found}")
            if client.spin_until(lambda: client.node.count_publishers("policy/action") > 0, _LOOK):
                client.settle()  # names come behind topics
            refuse_other_actors(client.node, own=False)
            truth = client.node.count_publishers("truth")
        # Who tells the truth is a simulator, which begins episodes itself.
        reset = SimulatorReset if truth else _patient(console)
        env = GraphEnv(task, lockstep=lockstep, reset=reset, truth=truth > 0)
        try:
            yield env
        finally:
            env.idle()
            env.close()
        return
    with (
        scratch_folder("serl_replay_") as scratch,
        simulated(
            console,
            name=f"replay-{task}",
            task=task,
            seed=seed,
            rtf=rtf,
            teleop="none",
            viewer=viewer,
            run_dir=scratch,
            log_dir=scratch / "log",
            learning_nodes="false",
        ) as session,
    ):
        env = GraphEnv(task, lockstep=rtf == 0.0, reset_timeout=60.0, check=session.check)
        try:
            yield env
        finally:
            env.close()


def _patient(console: Console) -> Callable[..., PersonReset]:
    said = [""]

    def notice(what: str) -> None:
        if what and what != said[0]:
            console.print(f"waiting for {what}", highlight=False, soft_wrap=True, markup=False)
        said[0] = what

    return lambda graph, timeout: PersonReset(graph, timeout, notice=notice)


class _ArmWatch:
    """Ends a replay on an arm that somebody has stopped, or that is not where it was recorded."""

    def __init__(
        self, env: GraphEnv, episode: Episode, spec: RecordingSpec, expected: RecordingSpec, max_drift: float
    ) -> None:
        self._env, self._episode, self._spec, self._expected = env, episode, spec, expected
        self._max_drift = max_drift

    def begin(self, observation: Observation) -> None:
        """Look before the first action; raises as `look`, and CommandError where somebody else acts."""
        refuse_other_actors(self._env.connection.node, own=True)
        self.look(0, observation)

    def look(self, steps: int, observation: Observation) -> None:
        """Look behind so many steps; raises EpisodeLost where the next action must not be sent."""
        label = f"episode {self._episode.number} of {self._episode.actor}, behind {steps} of {len(self._episode)} steps"
        safety = self._env.inputs.safety
        if safety is not None and safety.estop:
            raise EpisodeLost(f"{label}: the arm was stopped: {printable(safety.reason) or 'e-stop'}")
        off = distance(self._episode, self._spec, steps, observation["state"], self._expected)
        if off is not None and off > self._max_drift:
            raise EpisodeLost(
                f"{label}: expected the tool within {1e3 * self._max_drift:g} mm of where it was recorded, found it "
                f"{1e3 * off:.0f} mm off: the arm is held; see what it is caught at, or where it has to start, or give "
                "--max-drift"
            )


def _replay_one(
    env: GraphEnv,
    episode: Episode,
    spec: RecordingSpec,
    expected: RecordingSpec,
    path: Path,
    seed: int,
    watch: _ArmWatch | None,
) -> Outcome:
    check_actions(path, episode)  # a run that goes on may have more of them than before
    # An arm controller drops the steps of an episode that it has heard of before, so no two replays share a number.
    number = max(env.episode + 1, FIRST_EVALUATION + int(time.time()))
    observation, _ = env.reset(seed=seed, options={"mode": EpisodeMode.EVALUATION, "episode": number})
    if watch is not None:
        watch.begin(observation)
    begin_ns = end_ns = env.stamp_ns
    states, executed = [observation["state"]], []
    success, led = False, 0
    limits: set[str] = set()
    for action in episode.action:
        observation, _, terminated, truncated, info = env.step(action)
        end_ns = env.stamp_ns
        states.append(observation["state"])
        executed.append(info["executed_action"])
        success |= bool(info["success"])
        led += bool(info["intervention"])
        limits |= set(info["limits"])
        if watch is not None:
            watch.look(len(executed), observation)
        if terminated or truncated:
            break
    return compare(
        episode,
        spec,
        states,
        expected,
        executed,
        success=success,
        led=led,
        limits=frozenset(limits),
        seconds=1e-9 * (end_ns - begin_ns),
    )


def _line(outcome: Outcome, rate: float) -> str:
    words = {True: "success", False: "failure"}
    text = (
        f"episode {outcome.number} of {outcome.actor}: recorded {words[outcome.recorded_success]} in "
        f"{outcome.recorded} steps, replayed {words[outcome.replayed_success]} in {outcome.replayed}"
    )
    if outcome.path is not None:
        mean, most = 1e3 * outcome.path.mean(), 1e3 * outcome.path.max()
        text += f"; tool {mean:.2f} mm off on average, {most:.2f} mm at most"
    if outcome.changed:
        by = f" by {', '.join(outcome.limits)}" if outcome.limits else ""
        text += f"; {outcome.changed} actions were changed{by}"
    if abs(outcome.rate - rate) > _OTHER_RATE * rate:
        text += f"; {outcome.rate:.3g} actions per second instead of {rate:g}"
    if outcome.led:
        text += f"; a person led {outcome.led} steps"
    return text if outcome.same_start else f"{text}; it did not start where the recorded one did"


def _summary(outcomes: list[Outcome]) -> str:
    same = sum(each.recorded_success == each.replayed_success for each in outcomes)
    text = f"{same} of {len(outcomes)} episodes end as they were recorded"
    paths = [each.path for each in outcomes if each.path is not None]
    if paths:
        off = 1e3 * np.concatenate(paths)
        text += f"; the tool is {off.mean():.2f} mm off on average, {off.max():.2f} mm at most"
    elsewhere = sum(not each.same_start for each in outcomes)
    if elsewhere:
        text += f"; {elsewhere} started elsewhere: --seed is that of the recording, and of its simulation"
    return text


def _numbers(outcome: Outcome) -> dict[str, object]:
    names = ("number", "actor", "recorded", "replayed", "recorded_success", "replayed_success", "same_start", "changed")
    path = outcome.path
    off = {} if path is None else {"path_mean_m": float(path.mean()), "path_max_m": float(path.max())}
    return {name: getattr(outcome, name) for name in (*names, "led", "limits")} | {"rate_hz": outcome.rate} | off
