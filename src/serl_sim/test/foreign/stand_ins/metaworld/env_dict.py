# SPDX-License-Identifier: Apache-2.0
"""One task, ``reach-v3``, with Meta-World's observation, attributes and ways of seeding."""

import gymnasium
import numpy as np
from gymnasium.utils import seeding


class Reach:
    """A hand that an action moves by a hundredth of a metre; done within two centimetres, closed."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)

    def __init__(self, seed=None):
        self._freeze_rand_vec, self.seeded_rand_vec = True, False
        self.seed(seed)

    def seed(self, seed):
        """Seed what draws the scene."""
        self.np_random, _ = seeding.np_random(seed)

    def reset(self, seed=None, options=None):
        """Draw the scene; `seed` is ignored, as there."""
        assert self.seeded_rand_vec
        assert not self._freeze_rand_vec
        self.goal = self.np_random.uniform([-0.2, 0.6, 0.1], [0.2, 0.8, 0.3])
        self.hand, self.opening, self.steps = np.array([0.0, 0.6, 0.2]), 1.0, 0
        self.before = self._now()
        return self._observation(), {}

    def step(self, action):
        """Move."""
        if self.steps >= 500:
            raise ValueError("You must reset the env manually once truncate==True")
        assert action.dtype == np.float32
        self.steps += 1
        self.hand = self.hand + 0.01 * action[:3].astype(np.float64)
        self.opening = float(np.clip(self.opening - 0.2 * action[3], 0.0, 1.0))
        done = np.linalg.norm(self.hand - self.goal) < 0.02 and self.opening < 0.5
        return self._observation(), 10.0, False, self.steps == 500, {"success": float(done)}

    def close(self):
        """Nothing to let go of."""

    def _now(self):
        puck = np.array([0.05, 0.65, 0.02, 0.5, 0.5, -0.5, 0.5])
        return np.concatenate([self.hand, [self.opening], puck, np.zeros(7)])

    def _observation(self):
        now = self._now()
        observation = np.concatenate([now, self.before, self.goal])
        self.before = now
        return observation


ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE = {"reach-v3-goal-observable": Reach}
