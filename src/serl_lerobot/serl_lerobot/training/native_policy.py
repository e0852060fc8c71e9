# SPDX-License-Identifier: Apache-2.0
"""A policy of LeRobot that was trained on this very robot, as one of the environment's actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_rl.foreign.act.acting import ActPolicy
from serl_rl.spec import DataError, TransitionSpec
from serl_tasks.camera_view import CameraView

from serl_lerobot.robots.environment import SERLRobotEnvironment
from serl_lerobot.robots.joint_map import FeatureError

_STATE: Final = "observation.state"
_PICTURE: Final = "observation.images."


class NativePolicy:
    """Takes the robot's own numbers and pictures, as LeRobot records them, and wants positions of its joints."""

    def __init__(self, policy: ActPolicy, env: SERLRobotEnvironment, source: str) -> None:
        """Put the policy in front of the environment; `source` is where it lies, for people.

        Raises:
            FeatureError: it takes or gives something that the robot does not have; names it.
            ValueError: the environment's actions are not of the joints.
        """
        self._policy, self._env = policy, env
        told, taken = env.robot.observation_features, env.robot.action_features
        self._numbers = [name for name, kind in told.items() if not isinstance(kind, tuple)]
        self._targets = list(taken)
        cameras = {name: kind for name, kind in told.items() if isinstance(kind, tuple)}
        self._views: dict[str, tuple[str, CameraView]] = {}
        for name, shape in policy.inputs.items():
            camera = name.removeprefix(_PICTURE)
            if len(shape) == 3 and camera in cameras:
                self._views[name] = (camera, CameraView(size=(shape[1], shape[0])))
            elif name != _STATE or shape != (len(self._numbers),):
                raise FeatureError(
                    f"{source}: {name} {shape}: expected {_STATE} of {len(self._numbers)} numbers and pictures of "
                    f"{', '.join(cameras) or 'no camera'}, which the robot has"
                )
        if policy.outputs != len(self._targets):
            raise FeatureError(
                f"{source}: action: expected {len(self._targets)} numbers, as the robot takes, found {policy.outputs}"
            )
        env.action_towards(env.resting_target)  # of joints

    @property
    def action_dim(self) -> int:
        """Number of action components A."""
        return len(self._env.task.action)

    @property
    def planned(self) -> int:
        """Actions that it will give before it looks again."""
        return self._policy.planned

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless actions of `spec` are the environment's."""
        if spec.action_dim != self.action_dim:
            raise DataError("action", f"{self.action_dim} components", str(spec.action_dim))

    def reset(self) -> None:
        """Begin an episode: forget what was planned."""
        self._policy.reset()

    def act(
        self, observation: Mapping[str, Any], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] that brings the joints nearest to where the policy wants them next.

        Args:
            observation: of the environment; the policy takes the robot's own numbers instead, of the same moment.
            deterministic: it always is.
            rng: is not drawn from.
        """
        del observation, deterministic, rng
        values = self._env.told
        inputs: dict[str, NDArray[Any]] = {
            _STATE: np.array([float(values[name]) for name in self._numbers], dtype=np.float32)
        }
        for name, (camera, view) in self._views.items():
            inputs[name] = np.ascontiguousarray(view.apply(np.asarray(values[camera])))
        wanted = self._policy.act(inputs)
        return self._env.action_towards(dict(zip(self._targets, wanted.tolist(), strict=True)))
