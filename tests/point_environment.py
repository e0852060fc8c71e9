# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment that knows nothing of us: a point with a hand that opens, which goes to a mark and closes.

Importing this module registers `PointReach-v0`, `PointKeys-v0` (discrete actions) and `PointBreaks-v0`.
"""

from pathlib import Path

import gymnasium
import numpy as np
from documented_pages import blocks
from serl_tasks.arm_sample import ArmSample

REACH = 0.02  # [m]
STEP = 0.02  # [m] that an action of 1 moves it
PAGE = Path(__file__).resolve().parent.parent / "docs" / "other_worlds.md"


def task(name: str, environment: str) -> str:
    """The task of the page, under another name and with another environment."""
    (text,) = (block.text for block in blocks(PAGE) if block.language == "yaml")
    return text.replace("reach_mark", name).replace("point_environment:PointReach-v0", environment)


class PointReach(gymnasium.Env):
    """Action (4,): closing, then x, y, z. Observation: where the hand is and how far open, and the mark."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own declaration
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
    observation_space = gymnasium.spaces.Dict(
        {
            "hand": gymnasium.spaces.Dict(
                {
                    "position": gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float64),
                    "opening": gymnasium.spaces.Box(0.0, 1.0, (1,), np.float64),
                }
            ),
            "scene": gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float64),
        }
    )

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        """Go to the start state of a seed."""
        super().reset(seed=seed)
        self.hand, self.opening = np.array([0.0, 0.0, 0.2]), 1.0
        self.mark = np.append(self.np_random.uniform(-0.2, 0.2, 2), self.np_random.uniform(0.05, 0.3))
        return self._observation(), {}

    def step(self, action):
        """Move by an action (4,)."""
        assert action.dtype == np.float32
        assert self.action_space.contains(action)
        self.hand = self.hand + STEP * action[1:].astype(np.float64)
        self.opening = float(np.clip(self.opening - 0.5 * action[0], 0.0, 1.0))
        done = bool(np.linalg.norm(self.hand - self.mark) < REACH and self.opening < 0.1)
        return self._observation(), 0.1, False, False, {"is_success": done}

    def render(self):
        """The hand as a dot, (48, 64, 3)."""
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[..., 0] = round(255 * self.opening)
        x, y = (round(float(32 + 60 * value)) for value in self.hand[:2])
        picture[y % 48, x % 64] = 255
        return picture

    def _observation(self):
        hand = {"position": self.hand.copy(), "opening": np.array([self.opening])}
        return {"hand": hand, "scene": np.concatenate([[0.5, 0.5], self.mark])}


class PointKeys(PointReach):
    """Has four keys."""

    action_space = gymnasium.spaces.Discrete(4)


class PointBreaks(PointReach):
    """Fails in its third step."""

    def reset(self, **arguments):
        """Count from 0."""
        self.steps = 0
        return super().reset(**arguments)

    def step(self, action):
        """Count, and fail."""
        self.steps += 1
        if self.steps == 5:
            raise ArithmeticError("the point is\x1b[31m lost")
        return super().step(action)


class Teacher:
    """Goes there, then closes."""

    def reset(self):
        """Nothing to forget."""

    def act(self, arm: ArmSample, objects):
        """Go to the mark and close."""
        way = objects["mark"].position - arm.tcp.position
        return np.append(np.clip(way / 0.04, -1.0, 1.0), 1.0 if np.linalg.norm(way) > 0.5 * REACH else -1.0)


for _name, _class in (("PointReach-v0", PointReach), ("PointKeys-v0", PointKeys), ("PointBreaks-v0", PointBreaks)):
    gymnasium.register(_name, entry_point=_class)
