# SPDX-License-Identifier: Apache-2.0
"""The running graph as LeRobot's commands see it: named numbers in and out, a step at a time, without its episodes.

A robot, the teleoperator that stands for the person beside it, and whatever else is in one process share a `GraphArm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_ros.incoming import subscribe
from serl_ros.qos import RELIABLE_10
from serl_tasks.messages import MessageError
from serl_training.env.episode import EpisodeMode
from serl_training.env.graph_env import GraphEnv

from serl_interfaces.msg import ActionCommand
from serl_tasks import get_task

_ANSWER: Final = 1.0  # [s] that a person who answers each step of a world in lockstep has for it
_open: dict[GraphPlace, GraphArm] = {}
_led: set[GraphPlace] = set()


@dataclass(frozen=True)
class GraphPlace:
    """Which running graph."""

    task: str
    namespace: str = ""


class GraphArm:
    """One arm of a running graph.

    LeRobot has no word for the end of an episode: after a success, or at the task's horizon, the next observation is
    the first one of another episode.
    """

    def __init__(self, place: GraphPlace, *, lockstep: bool, truth: bool) -> None:
        """Connect to the graph; the first episode begins with the first observation.

        Args:
            place: which graph.
            lockstep: whether its world waits for each action.
            truth: whether somebody there knows the true poses of the objects.

        Raises:
            ValueError: there is no such task, it is one of two arms, or needs the truth.
            RuntimeError: this process has such an arm already.
        """
        if place in _open:
            raise RuntimeError(f"{place}: expected one robot for a graph in a process, found a second one")
        self._place, self._lockstep = place, lockstep
        self._env = GraphEnv(check_task(place.task), namespace=place.namespace, lockstep=lockstep, truth=truth)
        self._is_over = True
        self._observation: Mapping[str, NDArray[Any]] = {}
        self._person: ActionCommand | None = None
        self._subscription = subscribe(
            self._env.connection.node, ActionCommand, "teleop/action", self._hear, RELIABLE_10, MessageError
        )
        _open[place] = self

    def observe(self) -> dict[str, Any]:
        """The newest observation, by `observation_features`; begins an episode where none is on.

        Raises:
            GraphError: something of the graph does not answer.
        """
        if self._is_over:
            leads = self._place in _led
            mode = EpisodeMode.DEMONSTRATION if leads else EpisodeMode.EVALUATION
            self._observation, _ = self._env.reset(options={"mode": mode, "human_expected": leads})
            self._is_over = False
        state = self._observation["state"].tolist()
        numbers = dict(zip(_state_names(len(state)), state, strict=True))
        return {**numbers, **{name: self._observation[name] for name in self._env.task.cameras}}

    def act(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Act for a control period by the components of a task's action, each in [-1, 1]; what was executed.

        Raises:
            ValueError: a component is missing or no number.
            GraphError: something of the graph does not answer; the next observation begins an episode.
        """
        names = self._env.task.action.names
        try:
            values = np.array([float(action[name]) for name in names], dtype=np.float32)
        except (KeyError, TypeError) as error:
            raise ValueError(f"action: expected {', '.join(names)}, found {', '.join(action)}") from error
        self._is_over = True  # unless all goes well
        self._observation, _, terminated, truncated, info = self._env.step(values.clip(-1.0, 1.0))
        self._is_over = terminated or truncated
        return dict(zip(names, info["executed_action"].tolist(), strict=True))

    def person(self) -> dict[str, float]:
        """What the person of the graph does now; the action that changes nothing while nobody leads."""
        env = self._env
        wait = _ANSWER if self._lockstep else env.task.control_period
        env.connection.executor.spin_until(lambda: self._is_answer(self._person), wait)
        heard = self._person
        leads = heard is not None and heard.active and self._is_answer(heard)
        action = np.array(heard.action) if leads and heard is not None else env.rest_action
        return dict(zip(env.task.action.names, action.tolist(), strict=True))

    def close(self) -> None:
        """Leave the graph. A second call does nothing."""
        if _open.pop(self._place, None) is not None:
            self._env.idle()
            self._env.close()

    def _hear(self, message: ActionCommand) -> None:
        if len(message.action) != len(self._env.task.action):
            raise MessageError(f"action: expected {len(self._env.task.action)} values, found {len(message.action)}")
        self._person = message

    def _is_answer(self, message: ActionCommand | None) -> bool:
        """Whether a person's message is one for the step that is next."""
        if message is None:
            return False
        inputs = self._env.inputs
        return not message.synchronous or (message.episode, message.step) == (inputs.episode, inputs.step)


def expect_person(place: GraphPlace, *, leads: bool) -> None:
    """Say whether the next episodes of a graph are ones that a person demonstrates, whose arm may be opened later."""
    (_led.add if leads else _led.discard)(place)


def open_arm(place: GraphPlace) -> GraphArm:
    """The arm that a robot of this process has opened there.

    Raises:
        RuntimeError: there is none.
    """
    if place not in _open:
        raise RuntimeError(f"{place}: expected a connected robot of type serl in this process, found none")
    return _open[place]


def observation_features(task: str) -> dict[str, Any]:
    """Features of a task's observation as LeRobot names them: float for a number, (H, W, 3) for a picture.

    Raises:
        ValueError: there is no such task, or it is one of two arms.
    """
    known = check_task(task)
    shape = known.observation_space["state"].shape or (0,)
    return {
        **dict.fromkeys(_state_names(shape[0]), float),
        **{name: view.shape for name, view in known.cameras.items()},
    }


def action_features(task: str) -> dict[str, Any]:
    """Components of a task's action, as LeRobot names features; raises ValueError as `observation_features` does."""
    return dict.fromkeys(check_task(task).action.names, float)


def check_task(name: str) -> Any:
    """The `Task` of a name.

    Raises:
        ValueError: there is none, or it is one of two arms.
    """
    task = get_task(name)
    if task.arms:
        raise ValueError(f"task {name!r}: expected one of a single arm, found one of two")
    return task


def _state_names(count: int) -> list[str]:
    return [f"state_{index}" for index in range(count)]
