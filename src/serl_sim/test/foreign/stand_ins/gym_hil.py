# SPDX-License-Identifier: Apache-2.0
"""Stands in for the package of this name: a hand that lifts a block, with the spaces of its PandaPickCubeBase-v0."""

import gymnasium
import numpy as np

LOWER, UPPER = np.array([0.2, -0.3, 0.0]), np.array([0.6, 0.3, 0.5])


class PickCube(gymnasium.Env):
    """Actions are metres; the last component changes how far the gripper is closed. It draws two pictures at once."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
    observation_space = gymnasium.spaces.Dict(
        {
            "agent_pos": gymnasium.spaces.Box(-np.inf, np.inf, (18,), np.float32),
            "environment_state": gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        }
    )

    drawn = 0  # times

    def __init__(self, random_block_position=False):
        self.random = random_block_position

    def reset(self, *, seed=None, options=None):
        """Draw the scene from numpy's global generator, as there."""
        super().reset(seed=seed)
        place = np.random.uniform([0.3, -0.15], [0.5, 0.15]) if self.random else [0.5, 0.0]  # noqa: NPY002
        self.block = np.array([*place, 0.02])
        self.hand, self.closed = np.array([0.49, 0.0, 0.078]), 0.0
        return self._observation(), {}

    def step(self, action):
        """Move; a closed hand that is at the block takes it along."""
        before = self.hand
        self.hand = np.clip(self.hand + action[:3].astype(np.float64), LOWER, UPPER)
        held = self.closed > 0.5 and np.linalg.norm(before - self.block) < 0.03
        self.closed = float(np.clip(self.closed + action[6], 0.0, 1.0))
        if held:
            self.block = self.block + self.hand - before
        reward = float(self.block[2] - 0.02 > 0.1)
        return self._observation(), reward, reward == 1.0, False, {"succeed": reward == 1.0}

    def render(self):
        """One picture for each of two cameras."""
        PickCube.drawn += 1
        return [np.full((8, 8, 3), value, np.uint8) for value in (10, 20)]

    def _observation(self):
        numbers = np.concatenate([np.zeros(14), [255.0 * self.closed], self.hand])
        return {"agent_pos": numbers.astype(np.float32), "environment_state": self.block.astype(np.float32)}


gymnasium.register("gym_hil/PandaPickCubeBase-v0", entry_point=PickCube)
