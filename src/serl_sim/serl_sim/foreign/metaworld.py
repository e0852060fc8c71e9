# SPDX-License-Identifier: Apache-2.0
"""Meta-World's tasks as one Gymnasium environment: `MetaWorld-v0` of this module, with the argument `variant`.

Its 39 numbers get names, and `reset(seed=...)` draws the scene, which Meta-World leaves to fifty fixed ones or chance.
Physics, success and the policies that come with it are untouched. The package is imported when an environment is made.
"""

from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

_SIZE = 39
_NOT_TURNED = np.array([1.0, 0.0, 0.0, 0.0])


class MetaWorld(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """One of Meta-World's tasks, whose goal can be seen.

    Observations: ``hand`` (3,) [m]; ``opening`` (1,) of the hand, from 0 to 1; ``first`` and ``second`` object, each
    with ``position`` (3,) [m] and ``quaternion`` (4,), w x y z; ``goal`` (3,) [m]. Where there is no second object, it
    is at 0.
    Actions: x, y, z in hundredths of a metre, and how the fingers press, 1 together, each in [-1, 1].
    """

    def __init__(self, variant: str) -> None:
        """Make the environment of `variant`, as ``assembly-v3``.

        Raises:
            ImportError: the package is not installed.
            ValueError: it has no such task.
        """
        classes = import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        name = f"{variant}-goal-observable"
        if name not in classes:
            raise ValueError(f"variant: expected a task of Meta-World, as assembly-v3, found {variant!r}")
        self._env = classes[name](seed=0)
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True  # scenes from its own, seeded generator
        self.action_space = self._env.action_space
        box = gymnasium.spaces.Box
        thing = gymnasium.spaces.Dict(
            {"position": box(-np.inf, np.inf, (3,), np.float64), "quaternion": box(-1.0, 1.0, (4,), np.float64)}
        )
        self.observation_space = gymnasium.spaces.Dict(
            {
                "hand": box(-np.inf, np.inf, (3,), np.float64),
                "opening": box(0.0, 1.0, (1,), np.float64),
                "first": thing,
                "second": thing,
                "goal": box(-np.inf, np.inf, (3,), np.float64),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the scene of `seed`, or another one."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.seed(seed)
        numbers, info = self._env.reset()
        return named(numbers), info

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move by an action (4,). ``info["success"]`` is 1.0 where the task is done."""
        numbers, reward, terminated, truncated, info = self._env.step(action)
        return named(numbers), float(reward), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """Let go of the simulation."""
        self._env.close()


def named(numbers: NDArray[np.float64]) -> dict[str, Any]:
    """Meta-World's numbers (39,) by names; the state before, which they hold too, is left out.

    Raises:
        ValueError: they are not as many.
    """
    if numbers.shape != (_SIZE,):
        raise ValueError(f"expected the {_SIZE} numbers of Meta-World's observation, found shape {numbers.shape}")
    return {
        "hand": numbers[:3].copy(),
        "opening": numbers[3:4].copy(),
        "first": {"position": numbers[4:7].copy(), "quaternion": _turned(numbers[7:11])},
        "second": {"position": numbers[11:14].copy(), "quaternion": _turned(numbers[14:18])},
        "goal": numbers[36:].copy(),
    }


def _turned(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """A unit quaternion (4,): some tasks leave it 0, which is none."""
    length = float(np.linalg.norm(quaternion))
    return quaternion / length if length > 0.5 else _NOT_TURNED.copy()


gymnasium.register("MetaWorld-v0", entry_point=f"{__name__}:MetaWorld")
