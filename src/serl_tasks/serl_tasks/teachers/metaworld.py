# SPDX-License-Identifier: Apache-2.0
"""Meta-World's own scripted policies, as the person of the tasks `metaworld-...`.

Its package is imported here and in `serl_sim.foreign.metaworld` alone, in the virtual environment of ``./serl setup gym
metaworld``.
"""

from collections.abc import Mapping
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample

WIDTH = 0.1  # [m] of the open hand: what 1 is in Meta-World's observation
_SIZE = 39


class Policy:
    """The scripted policy of one of its tasks."""

    def __init__(self, variant: str) -> None:
        """Take the policy of `variant`, as ``assembly-v3``.

        Raises:
            ImportError: the package is not installed.
            ValueError: it has no policy for such a task.
        """
        policies = import_module("metaworld.policies").ENV_POLICY_MAP
        if variant not in policies:
            raise ValueError(f"expected one of {', '.join(policies)}, found {variant!r}")
        self._policy = policies[variant]()

    def reset(self) -> None:
        """Nothing to forget: these policies act on what they see."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float64]:
        """Action (4,): x, y, z, gripper. Theirs says how the fingers press, ours how their opening changes."""
        action = np.clip(self._policy.get_action(observation(arm, objects)), -1.0, 1.0).astype(np.float64)
        width = 0.5 * (1.0 - action[3]) * WIDTH
        action[3] = (width - arm.gripper_target) / WIDTH
        return action


def observation(arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float64]:
    """Meta-World's observation (39,) of what is known: this moment twice, as after a reset, then the goal."""
    values = np.zeros(_SIZE)
    values[:3], values[3] = arm.tcp.position, arm.gripper_width / WIDTH
    for place, name in ((4, "first"), (11, "second")):
        x, y, z, w = objects[name].quaternion
        values[place : place + 7] = (*objects[name].position, w, x, y, z)
    values[18:36] = values[:18]
    values[36:] = objects["goal"].position
    return values
