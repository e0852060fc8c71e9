# SPDX-License-Identifier: Apache-2.0
"""A fault to inject: in the process that calls `inject`, simulated worlds of odd seeds blow up in mid-episode."""

from collections.abc import Mapping

from serl_robots.model.pose import Pose
from serl_sim.world import World

STEP = 11  # control step that is the last one
_left: dict[int, int] = {}  # control steps until that, by world

_reset, _advance = World.reset, World.advance


def _reset_to_break(self: World, seed: int, objects: Mapping[str, Pose] | None = None) -> None:
    _reset(self, seed, objects)
    _left[id(self)] = STEP if seed % 2 else 0


def _advance_to_break(self: World, steps: int) -> None:
    left = _left.get(id(self), 0)
    _left[id(self)] = left - 1
    if left == 1:
        self.data.qvel[-1] = 1e5  # of the last joint of the cable [rad/s]: absurd, and far from what MuJoCo warns of
    _advance(self, steps)


def inject() -> None:
    """Let worlds break from now on, for as long as the process lives."""
    World.reset, World.advance = _reset_to_break, _advance_to_break  # type: ignore[method-assign]
