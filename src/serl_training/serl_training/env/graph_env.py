# SPDX-License-Identifier: Apache-2.0
"""The robot graph as a Gymnasium environment.

``reset`` and ``step`` talk to the arm controller, the world and the reward node, whoever runs them: the simulated graph
in lockstep, the simulated graph in real time, or a real arm. The actor uses it, and so can any script::

    env = GraphEnv("pick_cube")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

A real arm has no simulator that resets its world, and nobody there knows where the objects are::

    env = GraphEnv("pick_cube_vision", lockstep=False, reset=PersonReset, truth=False)

Two tasks that undo each other share an environment; whoever resets it says which one the episode is of::

    env = GraphEnv("relocate_forward", partner="relocate_backward")
    observation, info = env.reset(options={"task": "relocate_backward"})
"""

from __future__ import annotations

import copy
import dataclasses
import time
from array import array
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from serl_robots.model.pose import Pose
from serl_ros.execution.executor import FastExecutor
from serl_ros.qos import LATCHED, RELIABLE_1
from serl_tasks.arm_sample import ArmSample, arm_topic
from serl_tasks.pair import check_pair

from serl_interfaces.msg import ActionCommand, EpisodeStatus, ExecutedAction
from serl_tasks import Task, get_task
from serl_training.env.episode import EpisodeMode, EpisodeStart, Observation, WorldBroken
from serl_training.env.graph_cameras import CameraError, CameraInputs, Transport
from serl_training.env.graph_connection import GraphConnection, GraphError
from serl_training.env.graph_inputs import GraphInputs, check_observable
from serl_training.env.graph_progress import StepProgress
from serl_training.env.graph_reset import ResetFactory, SimulatorReset

_REPEAT_AFTER = 0.3  # [s] without an answer, after which a command in lockstep is sent again


class GraphEnv(gym.Env[Observation, NDArray[np.float32]]):
    """One arm, or two, and their world behind ROS topics.

    Observation ``{"state": float32 (k,), "<camera>": uint8 (H, W, 3), ...}``, action ``float32 (A,)`` in [-1, 1], both
    as the task defines them. ``info`` has ``executed_action`` (what the arm controller made of the action),
    ``intervention`` (a person led), ``limits`` (names of those that acted), ``source`` (an `ExecutedAction` constant),
    ``success`` and ``rest_action`` (the action that changes nothing). `stamp_ns` says when an observation was made,
    which is never the same; what `info` says is, for the same seed and actions.

    In lockstep a step ends when everything with the stamp of the next state has arrived. Otherwise it ends one control
    period of the arm's clock after it began, and not before every camera has a picture that is fresh: meanwhile no
    action is sent, and the arm controller holds the arm.

    Two arms are in the namespaces of their prefixes. Each gets its part of an action, and what both executed is one
    action: a person who led one of them led the step.

    Attributes:
        task: that defines spaces and state vector; of a pair the one whose episode is running.
        tasks: all that episodes may be of, by name: one or two.
        connection: to the graph.
        inputs: the newest messages.
        repetitions: commands in lockstep that were sent again because no answer came.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        task: str | Task = "pick_cube",
        *,
        partner: str | Task | None = None,
        node: Node | None = None,
        executor: FastExecutor | None = None,
        namespace: str = "",
        lockstep: bool = True,
        reset: ResetFactory = SimulatorReset,
        truth: bool = True,
        step_timeout: float = 3.0,
        reset_timeout: float = 15.0,
        camera_timeout: float = 0.5,
        image_transport: Transport = "raw",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect to the graph.

        Args:
            task: name of a registered task, or the task.
            partner: another one that undoes it, and may be asked for in `reset`.
            node: to use; None makes one of its own, in a context of its own, so that environments, and whatever else in
                this process uses ROS, do not end each other.
            executor: that has `node`; needed with it.
            namespace: of the arm, for an own node; another node has one already.
            lockstep: whether the world waits for each command (`real_time_factor` 0).
            reset: makes what brings the world to the start of an episode.
            truth: whether somebody publishes the true poses of the objects; a task whose state has them needs that.
            step_timeout: longest wait for a step [s].
            reset_timeout: longest wait for each thing that a reset needs of a node [s].
            camera_timeout: age from which a picture is too old to act on [s]; not used in lockstep.
            image_transport: whether pictures come raw or compressed.
            check: called a few times a second while something is waited for; what it raises ends the wait.

        Raises:
            ValueError: `node` without `executor` or with `namespace`, a `namespace` that is none, an unknown task,
                one whose state has poses of objects, without `truth`, or two tasks that cannot take turns.
            RuntimeError: this process was forked from one that had a `GraphEnv`.
        """
        self.task = get_task(task) if isinstance(task, str) else task
        self.tasks: Mapping[str, Task] = {self.task.name: self.task}
        if partner is not None:
            other = get_task(partner) if isinstance(partner, str) else partner
            check_pair(self.task, other)
            self.tasks = {**self.tasks, other.name: other}
        check_observable(self.task, truth)
        self.connection = GraphConnection(node, executor, namespace, check)
        # Copies: what is sampled from one environment's spaces must not depend on another's.
        self.observation_space = cast(gym.Space[Observation], copy.deepcopy(self.task.observation_space))
        self.action_space = cast(gym.Space[NDArray[np.float32]], copy.deepcopy(self.task.action_space))
        self.repetitions = 0
        self._lockstep = lockstep
        self._step_timeout, self._reset_timeout, self._camera_timeout = step_timeout, reset_timeout, camera_timeout
        self._commands = {arm: ActionCommand(active=True) for arm in self.task.arm_names}
        self._sent = (-1, -1)  # episode and step of the newest command
        self._observer = self.task.make_observer()

        graph_node = self.connection.node
        # Whoever knows of the steps is to know that their episodes are announced: hence in this order.
        self._episode_publisher = graph_node.create_publisher(EpisodeStatus, "episode", LATCHED)
        self._action_publishers = {
            arm: graph_node.create_publisher(ActionCommand, arm_topic(arm, "policy/action"), RELIABLE_1)
            for arm in self.task.arm_names
        }
        self._cameras = CameraInputs(graph_node, self.task.cameras, image_transport, own_clock=not lockstep)
        self.inputs = GraphInputs(graph_node, self.task, lockstep=lockstep, truth=truth)
        self._progress = StepProgress(
            self.inputs,
            self._cameras,
            period_ns=round(self.task.control_period * 1e9),
            lockstep=lockstep,
            truth=truth,
            camera_timeout=camera_timeout,
        )
        self._reset = reset(self, reset_timeout)

    # Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the start state; None draws one.
            options: ``episode`` number (default: one more than the last), ``mode`` (`EpisodeMode`, default training),
                ``human_expected`` (whether a scripted person answers each step, default False), ``task`` (of a pair,
                by name; default: that of the last episode).

        Raises:
            ValueError: the environment has no such task.
            GraphError: the world, the person or the arm controller did not answer in time.
            WorldBroken: the simulated world diverged at once.
        """
        super().reset(seed=seed)
        options = options or {}
        start = EpisodeStart(
            mode=EpisodeMode(options.get("mode", EpisodeMode.TRAINING)),
            number=int(options.get("episode", self.inputs.episode + 1)),
            seed=int(self.np_random.integers(2**31)) if seed is None else seed,
            human_expected=bool(options.get("human_expected")),
            task=self._turn_to(options.get("task")),
        )
        self._reset.prepare(start)
        self._announce(start)
        stamp_ns = self._reset.begin(start)
        self.connection.wait(
            lambda: bool(self.inputs.problem) or self._progress.has_state(stamp_ns),
            self._reset_timeout,
            lambda: self._progress.missing_of_state(stamp_ns),
        )
        if not self._progress.has_state(stamp_ns):  # a world that runs by itself may break before anybody has seen it
            raise WorldBroken(self.inputs.problem)
        self._observer.begin(self._sample(), start.seed)
        observation = self.observe()
        info = {"episode": start.number, "seed": start.seed, "rest_action": self.rest_action}
        return observation, info

    def _turn_to(self, name: str | None) -> str:
        """Make one of the tasks that whose episode begins; returns its name, empty where there is only one."""
        if name is not None and name not in self.tasks:
            raise ValueError(f"task: expected one of {', '.join(self.tasks)}, found {name!r}")
        if name is not None and name != self.task.name:
            self.task = self.tasks[name]
            self._observer = self.task.make_observer()
        return self.task.name if len(self.tasks) > 1 else ""

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one control period by a normalized action (n,).

        Raises:
            ValueError: the action has the wrong shape or is not finite.
            GraphError: something did not arrive in time; the episode is lost, a reset may help.
            WorldBroken: the simulation diverged; nothing of the episode is worth learning from, a reset helps.
        """
        self._publish(action)
        self._wait(self._progress.is_complete)
        held = not self._lockstep and not self._cameras.are_fresh(self._camera_timeout)
        if not self._lockstep:
            self.wait_for_cameras(self._step_timeout)

        executed, reward = self.inputs.executed, self.inputs.reward
        assert executed is not None
        assert reward is not None
        self.inputs.advance()
        executed_action = np.array(executed.action, dtype=np.float32)
        self._observer.advance(executed_action)
        observation = self.observe()
        terminated = bool(reward.terminated)
        truncated = not terminated and self.inputs.step >= self.task.horizon
        info = {
            "rest_action": self.rest_action,
            "executed_action": executed_action,
            "intervention": executed.source == ExecutedAction.SOURCE_HUMAN,
            "source": int(executed.source),
            "interrupted": held or executed.source != ExecutedAction.SOURCE_POLICY,
            "limits": tuple(executed.limits),
            "success": bool(reward.success),
        }
        return observation, float(reward.reward), terminated, truncated, info

    def close(self) -> None:
        """Leave the graph, if the node is the environment's own. A second call does nothing."""
        self.connection.close()

    def __reduce__(self) -> Any:
        raise TypeError("a GraphEnv is a connection to running nodes: it cannot be copied or pickled, make another one")

    # The graph

    @property
    def stamp_ns(self) -> int:
        """Stamp of the arm's state in the newest observation, by the arm's clock [ns]."""
        return self._progress.stamp_ns

    @property
    def estop(self) -> bool:
        """Whether the arm is stopped until somebody calls `arm/reset_estop`."""
        return self.inputs.safety is not None and bool(self.inputs.safety.estop)

    @property
    def driver_problem(self) -> str:
        """Why the driver of an arm moves nothing; empty while it does what is commanded, and where there is none."""
        return self.inputs.driver

    @property
    def episode(self) -> int:
        """Number of the running episode."""
        return self.inputs.episode

    @property
    def rest_action(self) -> NDArray[np.float32]:
        """The action (A,) that changes nothing: no motion, and the gripper keeps its command and its grip."""
        return self.task.action.rest(self.inputs.gripper_targets)

    @property
    def arm_sample(self) -> ArmSample:
        """The arm's newest state.

        Raises:
            GraphError: the environment was not reset.
        """
        if self.inputs.arm is None or not self._observer.has_begun:
            raise GraphError("the environment was not reset; call reset() first")
        return self._sample()

    @property
    def objects(self) -> dict[str, Pose]:
        """True poses of the tool and of all objects, base frame; empty where nobody knows them, as on a real robot."""
        return dict(self.inputs.objects)

    def known(self) -> tuple[ArmSample, Mapping[str, Pose]]:
        """What is known of the arm and of the objects: what an expert acts on, `expert.act(*env.known())`.

        Raises:
            GraphError: the environment was not reset.
        """
        return self._observer.known(self.arm_sample, self.inputs.objects)

    def observe(self) -> Observation:
        """The newest observation, without a step.

        Raises:
            GraphError: the environment was not reset, or a camera sends what is no picture.
        """
        sample = self.arm_sample
        self._progress.stamp_ns = self.inputs.arm_stamp_ns
        try:
            pictures = self._cameras.pictures()
        except CameraError as error:
            raise GraphError(str(error)) from error
        return {"state": self._observer.state(sample, self.inputs.objects), **pictures}

    def _sample(self) -> ArmSample:
        inputs = self.inputs
        return dataclasses.replace(inputs.sample, wrench=inputs.wrench) if inputs.observes_wrench else inputs.sample

    def stale_cameras(self) -> list[str]:
        """Topics of the cameras whose newest picture is too old to act on, with its age; none in lockstep."""
        return self._progress.stale_cameras()

    def wait_for_cameras(self, timeout: float) -> None:
        """Wait until every camera has a fresh picture.

        Raises:
            GraphError: one has none within `timeout` [s].
        """
        if not self._cameras.are_fresh(self._camera_timeout):
            self.connection.wait(
                lambda: not self.stale_cameras(), timeout, lambda: "pictures on " + ", ".join(self.stale_cameras())
            )

    def idle(self) -> None:
        """Tell the graph that no episode is running."""
        self._episode_publisher.publish(EpisodeStatus(episode=self.episode, mode=EpisodeStatus.MODE_IDLE))

    def command(self, action: NDArray[np.float32]) -> None:
        """Act for one control period after the last step of an episode; nobody judges that.

        Args:
            action: (A,) in [-1, 1], as in `step`.

        Raises:
            ValueError: the action has the wrong shape or is not finite.
            GraphError: the environment was not reset, or the arm controller did not answer.
        """
        if self._sent == (self.inputs.episode, self.inputs.step):
            self.inputs.advance()  # that step was lost, and nobody takes one twice
        self._publish(action)
        self._wait(self._progress.is_executed)
        self.inputs.advance()
        self._progress.stamp_ns = self.inputs.arm_stamp_ns

    def _announce(self, start: EpisodeStart) -> None:
        """Begin an episode, and wait for those without whom there is none."""
        self.inputs.begin(start.number, self.task.name)
        status = EpisodeStatus(
            episode=start.number,
            mode=int(start.mode),
            human_expected=start.human_expected,
            seed=start.seed,
            task=start.task,
        )
        node, publishers = self.connection.node, (*self._action_publishers.values(), self._episode_publisher)
        status.header.stamp = node.get_clock().now().to_msg()
        self._episode_publisher.publish(status)
        self.connection.wait(
            lambda: all(publisher.get_subscription_count() > 0 for publisher in publishers),
            self._reset_timeout,
            lambda: f"subscriptions to {self._unheard()} (arm_controller)",
        )
        # Some judges take their time to start, and steps do not wait that long.
        self.connection.wait(
            lambda: node.count_publishers("reward") > 0, self._reset_timeout, lambda: "a publisher of reward"
        )

    def _unheard(self) -> str:
        """Topics that an arm controller has not subscribed to."""
        publishers = (*self._action_publishers.values(), self._episode_publisher)
        names = [each.topic_name for each in publishers if each.get_subscription_count() == 0]
        namespace = self.connection.node.get_namespace().rstrip("/") + "/"
        return " and ".join(name.removeprefix(namespace) for name in names)

    def _publish(self, action: NDArray[np.float32]) -> None:
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f"action: expected {self.action_space.shape} finite values in [-1, 1], found {action}")
        if self.inputs.arm is None:
            raise GraphError("step: the environment was not reset; call reset() first")
        self._sent = (self.inputs.episode, self.inputs.step)
        parts = self.task.action.split(action) if self.task.arms else {"": action}
        for arm, command in self._commands.items():
            command.header.stamp = self.inputs.arm.header.stamp
            command.episode, command.step = self._sent
            command.action = array("f", parts[arm].tobytes())
        self._send()

    def _send(self) -> None:
        for arm, command in self._commands.items():
            self._action_publishers[arm].publish(command)

    def _wait(self, complete: Callable[[], bool]) -> None:
        """Wait for what a command leads to; in lockstep repeat it now and then, in case a message got lost."""
        inputs = self.inputs
        self._wait_until(lambda: bool(inputs.problem) or complete())
        if inputs.problem:
            raise WorldBroken(inputs.problem)

    def _wait_until(self, over: Callable[[], bool]) -> None:
        if not self._lockstep:
            self.connection.wait(over, self._step_timeout, self._progress.missing_of_step)
            return
        deadline = time.monotonic() + self._step_timeout
        while not self.connection.executor.spin_until(over, _REPEAT_AFTER):
            if time.monotonic() > deadline:
                missing = self._progress.missing_of_step()
                raise GraphError(f"waited {self._step_timeout:.1f} s for {missing}; is that node running?")
            self.connection.check()
            self.repetitions += 1
            self._send()
