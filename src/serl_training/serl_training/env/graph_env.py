# SPDX-License-Identifier: Apache-2.0
"""The robot graph as a Gymnasium environment.

``reset`` and ``step`` talk to the arm controller, the world and the reward node, whoever runs them: the simulated graph
in lockstep, the simulated graph in real time, or a real arm. The actor uses it, and so can any script::

    env = GraphEnv("pick_cube")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
"""

from __future__ import annotations

import copy
import os
import time
from array import array
from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.exceptions import InvalidNamespaceException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_namespace import validate_namespace
from serl_robots.model.pose import Pose
from serl_ros.execution.executor import FastExecutor
from serl_ros.incoming import subscribe
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10, RELIABLE_1
from serl_tasks.messages import MessageError, arm_sample, nanoseconds, object_poses
from serl_tasks.observation import ArmSample

from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, ExecutedAction, Reward, SafetyStatus, WorldState
from serl_interfaces.srv import ResetWorld
from serl_tasks import Task, get_task
from serl_training.env.episode import EpisodeLost, EpisodeMode
from serl_training.env.graph_cameras import CameraError, CameraInputs, Transport

_CHECK_PERIOD = 0.2  # [s] between looks at whether to wait on
_LARGEST_REWARD = 1e6
_REPEAT_AFTER = 0.3  # [s] without an answer, after which a command in lockstep is sent again


class GraphError(EpisodeLost):
    """The graph did not do what a step needs: says what was missing and for how long."""


class GraphEnv(gym.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    """One arm and its world behind ROS topics.

    Observation ``{"state": float32[k], "<camera>": uint8[H, W, 3], ...}``, action ``float32[n]`` in [-1, 1], both as
    the task defines them. ``info`` has ``executed_action`` (what the arm controller made of the action),
    ``intervention`` (a person led), ``limits`` (names of those that acted), ``source`` (an `ExecutedAction` constant)
    and ``success``.

    In lockstep a step ends when everything with the stamp of the next state has arrived. Otherwise it ends one control
    period of the arm's clock after it began, and not before every camera has a picture that is fresh: meanwhile no
    action is sent, and the arm controller holds the arm.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        task: str | Task = "pick_cube",
        *,
        node: Node | None = None,
        executor: FastExecutor | None = None,
        namespace: str = "",
        lockstep: bool = True,
        step_timeout: float = 3.0,
        reset_timeout: float = 15.0,
        camera_timeout: float = 0.5,
        image_transport: Transport = "raw",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect to the graph.

        Args:
            task: name of a registered task, or the task.
            node: to use; None makes one of its own, in a context of its own, so that environments, and whatever else in
                this process uses ROS, do not end each other.
            executor: that has `node`; needed with it.
            namespace: of the arm, for an own node; another node has one already.
            lockstep: whether the world waits for each command (`real_time_factor` 0).
            step_timeout: longest wait for a step [s].
            reset_timeout: longest wait for a reset [s].
            camera_timeout: age from which a picture is too old to act on [s]; not used in lockstep.
            image_transport: whether pictures come raw or compressed.
            check: called a few times a second while something is waited for; what it raises ends the wait.

        Raises:
            ValueError: `node` without `executor` or with `namespace`, a `namespace` that is none, or an unknown task.
            RuntimeError: this process was forked from one that had a `GraphEnv`.
        """
        if node is not None and (executor is None or namespace):
            raise ValueError("GraphEnv: a node needs the executor that spins it, executor=; it has a namespace already")
        self.task = get_task(task) if isinstance(task, str) else task
        # Copies: what is sampled from one environment's spaces must not depend on another's.
        self.observation_space = cast(gym.Space[dict[str, NDArray[Any]]], copy.deepcopy(self.task.observation_space))
        self.action_space = cast(gym.Space[NDArray[np.float32]], copy.deepcopy(self.task.action_space))
        self._lockstep = lockstep
        self._check = check
        self._step_timeout = step_timeout
        self._reset_timeout = reset_timeout
        self._camera_timeout = camera_timeout
        self._period_ns = round(self.task.control_period * 1e9)
        self._context: rclpy.Context | None = None
        if node is None or executor is None:
            full_namespace = "/" + namespace.strip("/")
            try:
                validate_namespace(full_namespace)
            except InvalidNamespaceException as error:
                raise ValueError(f"namespace: expected letters, digits and _, found {namespace!r}") from error
            self._context = _own_context()
            node = rclpy.create_node("graph_env", namespace=full_namespace, context=self._context)
            executor = FastExecutor(context=self._context)
        executor.add_node(node)
        self._node, self._executor = node, executor

        self.repetitions = 0
        """Commands in lockstep that were sent again because no answer came."""
        self._episode = 0
        self._step = 0
        self._mode = EpisodeMode.TRAINING
        self._arm: ArmState | None = None
        self._sample: ArmSample  # of _arm
        self._truth: WorldState | None = None
        self._objects: dict[str, Pose] = {}  # of _truth
        self._needed = ("tcp", *self.task.objects)
        self._reward: Reward | None = None
        self._executed: ExecutedAction | None = None
        self._safety: SafetyStatus | None = None
        self._stamp_ns = 0
        self._command = ActionCommand(active=True)

        self._action_publisher = node.create_publisher(ActionCommand, "policy/action", RELIABLE_1)
        self._episode_publisher = node.create_publisher(EpisodeStatus, "episode", LATCHED)
        self._cameras = CameraInputs(node, self.task.cameras, image_transport, own_clock=not lockstep)
        self._reset_client = node.create_client(ResetWorld, "sim/reset")
        self._subscriptions = [
            subscribe(node, ArmState, "arm/state", self._on_arm, LOOP_1, MessageError),
            subscribe(node, ExecutedAction, "arm/executed", self._on_executed, LOOP_10, MessageError),
            subscribe(node, WorldState, "truth", self._on_truth, LOOP_10, MessageError),
            subscribe(node, Reward, "reward", self._on_reward, LOOP_10, MessageError),
            node.create_subscription(SafetyStatus, "arm/safety", self._on_safety, LATCHED),
        ]

    # Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the start state; None draws one.
            options: ``episode`` number (default: one more than the last), ``mode`` (`EpisodeMode`, default training),
                ``human_expected`` (whether a scripted person answers each step, default False).

        Raises:
            GraphError: the world or the arm controller did not answer in time.
        """
        super().reset(seed=seed)
        options = options or {}
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self._episode = int(options.get("episode", self._episode + 1))
        self._mode = EpisodeMode(options.get("mode", EpisodeMode.TRAINING))
        self._step = 0
        self._reward = self._executed = None
        status = EpisodeStatus(
            episode=self._episode, mode=int(self._mode), human_expected=bool(options.get("human_expected")), seed=seed
        )
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._episode_publisher.publish(status)

        self._spin_until(
            lambda: min(p.get_subscription_count() for p in (self._action_publisher, self._episode_publisher)) > 0,
            self._reset_timeout,
            lambda: "subscriptions to policy/action and episode (arm_controller)",
        )
        # Some judges take their time to start, and steps do not wait that long.
        self._spin_until(
            lambda: self._node.count_publishers("reward") > 0, self._reset_timeout, lambda: "a publisher of reward"
        )
        stamp_ns = self._reset_world(seed)
        self._spin_until(
            lambda: self._has_state(stamp_ns), self._reset_timeout, lambda: self._missing_after_reset(stamp_ns)
        )
        observation = self._observe()
        return observation, {"episode": self._episode, "seed": seed, "rest_action": self.rest_action}

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Act for one control period.

        Raises:
            ValueError: the action has the wrong shape or is not finite.
            GraphError: something did not arrive in time; the episode is lost, a reset may help.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f"action: expected {self.action_space.shape} finite values in [-1, 1], found {action}")
        if self._arm is None:
            raise GraphError("step: the environment was not reset; call reset() first")
        command = self._command
        command.header.stamp = self._arm.header.stamp
        command.episode = self._episode
        command.step = self._step
        command.action = array("f", action.tobytes())
        self._action_publisher.publish(command)
        if self._lockstep:
            self._spin_lockstep(command)
        else:
            self._spin_until(self._period_complete, self._step_timeout, self._missing)
            self.wait_for_cameras(self._step_timeout)

        executed, reward = self._executed, self._reward
        assert executed is not None
        assert reward is not None
        self._step += 1
        observation = self._observe()
        terminated = bool(reward.terminated)
        truncated = not terminated and self._step >= self.task.horizon
        info = {
            "rest_action": self.rest_action,
            "executed_action": np.array(executed.action, dtype=np.float32),
            "intervention": executed.source == ExecutedAction.SOURCE_HUMAN,
            "source": int(executed.source),
            "limits": tuple(executed.limits),
            "success": bool(reward.success),
        }
        return observation, float(reward.reward), terminated, truncated, info

    def close(self) -> None:
        """Leave the graph, if the node is the environment's own. A second call does nothing."""
        if self._context is not None and self._context.ok():
            self._executor.shutdown(timeout_sec=1.0)
            self._node.destroy_node()
            self._context.try_shutdown()

    def __reduce__(self) -> Any:
        raise TypeError("a GraphEnv is a connection to running nodes: it cannot be copied or pickled, make another one")

    # The graph

    @property
    def estop(self) -> bool:
        """Whether the arm is stopped until somebody calls `arm/reset_estop`."""
        return self._safety is not None and bool(self._safety.estop)

    @property
    def episode(self) -> int:
        """Number of the running episode."""
        return self._episode

    @property
    def rest_action(self) -> NDArray[np.float32]:
        """The action (n,) that changes nothing: no motion, and the gripper keeps its command and its grip."""
        return self.task.action.rest(0.0 if self._arm is None else float(self._arm.gripper_target))

    @property
    def arm_sample(self) -> ArmSample:
        """The arm's newest state.

        Raises:
            GraphError: the environment was not reset.
        """
        if self._arm is None:
            raise GraphError("the environment was not reset; call reset() first")
        return self._sample

    @property
    def objects(self) -> dict[str, Pose]:
        """True poses of the tool and of all objects; empty where nobody knows them, as on a real robot."""
        return dict(self._objects)

    def observe(self) -> dict[str, NDArray[Any]]:
        """The newest observation, without a step."""
        return self._observe()

    def stale_cameras(self) -> list[str]:
        """Topics of the cameras whose newest picture is too old to act on, with its age; none in lockstep."""
        return [] if self._lockstep else self._cameras.stale(self._camera_timeout)

    def wait_for_cameras(self, timeout: float) -> None:
        """Wait until every camera has a fresh picture.

        Raises:
            GraphError: one has none within `timeout` [s].
        """
        if not self._cameras.are_fresh(self._camera_timeout):
            self._spin_until(
                lambda: not self.stale_cameras(), timeout, lambda: "pictures on " + ", ".join(self.stale_cameras())
            )

    def idle(self) -> None:
        """Tell the graph that no episode is running."""
        self._episode_publisher.publish(EpisodeStatus(episode=self._episode, mode=EpisodeStatus.MODE_IDLE))

    def _reset_world(self, seed: int) -> int:
        """Reset the world and return the stamp [ns] of its start state."""
        self._spin_until(
            self._reset_client.service_is_ready, self._reset_timeout, lambda: "service sim/reset (mujoco_bridge)"
        )
        future = self._reset_client.call_async(ResetWorld.Request(seed=seed, episode=self._episode))
        try:
            self._spin_until(future.done, self._reset_timeout, lambda: "the answer of sim/reset (mujoco_bridge)")
        except GraphError:
            self._reset_client.remove_pending_request(future)
            raise
        reply = future.result()
        if not reply.success:
            raise GraphError(f"sim/reset refused seed {seed}, episode {self._episode}: {reply.message}")
        return nanoseconds(reply.stamp)

    def _observe(self) -> dict[str, NDArray[Any]]:
        arm = self._arm
        assert arm is not None
        self._stamp_ns = nanoseconds(arm.header.stamp)
        try:
            pictures = self._cameras.pictures()
        except CameraError as error:
            raise GraphError(str(error)) from error
        return {"state": self.task.state_vector(self._sample, self._objects), **pictures}

    def _has_state(self, stamp_ns: int) -> bool:
        if not (_at_or_after(self._arm, stamp_ns) and _at_or_after(self._truth, stamp_ns)):
            return False
        if self._lockstep:
            assert self._truth is not None
            return self._cameras.have(nanoseconds(self._truth.header.stamp))
        return self._cameras.are_fresh(self._camera_timeout)

    def _missing_after_reset(self, stamp_ns: int) -> str:
        missing = []
        if not _at_or_after(self._arm, stamp_ns):
            missing.append("arm/state (arm_controller)")
        if not _at_or_after(self._truth, stamp_ns):
            missing.append("truth (mujoco_bridge)")
        missing += self._cameras.without(stamp_ns) if self._lockstep else self.stale_cameras()
        return "the state after the reset: " + ", ".join(missing)

    def _lockstep_complete(self) -> bool:
        truth, arm, reward, executed = self._truth, self._arm, self._reward, self._executed
        if truth is None or arm is None or reward is None or executed is None:
            return False
        # Who judges pictures knows their stamp, not the number of the step.
        stamp = truth.header.stamp
        return (
            truth.step == self._step + 1
            and executed.step == self._step
            and truth.episode == reward.episode == executed.episode == self._episode
            and stamp == arm.header.stamp == reward.header.stamp
            and self._cameras.have(nanoseconds(stamp))
        )

    def _period_complete(self) -> bool:
        if self._arm is None or self._reward is None or self._executed is None:
            return False
        return (
            nanoseconds(self._arm.header.stamp) >= self._stamp_ns + self._period_ns
            and self._reward.episode == self._executed.episode == self._episode
            and self._executed.step == self._step
        )

    def _spin_lockstep(self, command: ActionCommand) -> None:
        """Wait for the answers to a command; repeat it now and then, in case one of the messages got lost."""
        deadline = time.monotonic() + self._step_timeout
        while not self._executor.spin_until(self._lockstep_complete, _REPEAT_AFTER):
            if time.monotonic() > deadline:
                raise GraphError(f"waited {self._step_timeout:.1f} s for {self._missing()}; is that node running?")
            self._check()
            self.repetitions += 1
            self._action_publisher.publish(command)

    def _missing(self) -> str:
        """What the running step still waits for."""

        def lacks(message: Any, step: int) -> bool:
            return message is None or message.episode != self._episode or message.step < step

        missing = []
        if lacks(self._executed, self._step):
            missing.append("arm/executed (arm_controller)")
        if lacks(self._truth, self._step + 1):
            missing.append("truth (mujoco_bridge)")
        if self._lockstep and not missing and self._truth is not None:
            stamp_ns = nanoseconds(self._truth.header.stamp)
            missing += self._cameras.without(stamp_ns)
            if not missing and (self._reward is None or nanoseconds(self._reward.header.stamp) != stamp_ns):
                missing.append("reward (reward)")
        elif self._reward is None or self._reward.episode != self._episode:
            missing.append("reward (reward)")
        if not missing:
            missing.append("arm/state (arm_controller)")
        return f"step {self._step} of episode {self._episode}: " + ", ".join(missing)

    def _spin_until(self, condition: Callable[[], bool], timeout: float, what: Callable[[], str]) -> None:
        started = time.monotonic()
        while not self._executor.spin_until(condition, min(timeout, _CHECK_PERIOD)):
            waited = time.monotonic() - started
            if waited >= timeout:
                raise GraphError(f"waited {waited:.1f} s for {what()}; is that node running?")
            self._check()

    def _on_arm(self, message: ArmState) -> None:
        nanoseconds(message.header.stamp)
        self._sample, self._arm = arm_sample(message), message

    def _on_executed(self, message: ExecutedAction) -> None:
        action = np.array(message.action, dtype=np.float32)
        if action.shape != self.action_space.shape or not np.abs(action).max() <= 1.0:
            raise MessageError(f"action: expected {self.action_space.shape} values in [-1, 1], found {action}")
        # What a person drives while no step is asked for is nobody's step.
        if (message.episode, message.step) == (self._episode, self._step):
            self._executed = message

    def _on_truth(self, message: WorldState) -> None:
        nanoseconds(message.header.stamp)
        self._objects, self._truth = object_poses(message, self._needed), message

    def _on_safety(self, message: SafetyStatus) -> None:
        self._safety = message

    def _on_reward(self, message: Reward) -> None:
        nanoseconds(message.header.stamp)
        if not abs(message.reward) <= _LARGEST_REWARD:
            raise MessageError(f"reward: expected a number within {_LARGEST_REWARD:g}, found {message.reward}")
        # Between two ticks of a graph in real time several states are judged; a success among them must not be lost.
        last = self._reward
        if not self._lockstep and last is not None and last.terminated and last.episode == message.episode:
            return
        self._reward = message


_uses_ros = _is_forked = False


def _after_fork() -> None:
    global _is_forked
    _is_forked = _uses_ros


os.register_at_fork(after_in_child=_after_fork)


def _own_context() -> rclpy.Context:
    """A context of an environment's own. Signals stay the program's, so Ctrl-C raises KeyboardInterrupt."""
    global _uses_ros
    if _is_forked:  # without the middleware's threads, whose answers would be waited for without end
        raise RuntimeError(
            "ROS 2 does not survive a fork, and the process that this one was forked from had a GraphEnv. Start "
            "processes with multiprocessing's context forkserver or spawn, as AsyncVectorEnv(..., context='spawn') does"
        )
    _uses_ros = True
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    return context


def _at_or_after(message: ArmState | WorldState | None, stamp_ns: int) -> bool:
    return message is not None and nanoseconds(message.header.stamp) >= stamp_ns
