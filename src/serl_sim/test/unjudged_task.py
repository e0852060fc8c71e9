# SPDX-License-Identifier: Apache-2.0
"""The world of picking a cube with any action, and nothing to reach."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from serl_config.schema import config
from serl_robots.model.pose import Pose

from serl_tasks import Expert, Judgement, Task, get_task


@config(kw_only=True)
class Unjudged(Task):
    """Goes on to its horizon."""

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """Neither good nor bad."""
        return Judgement(reward=0.0, success=False, terminated=False)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Nowhere to go."""
        return 0.0

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """There is none."""
        raise NotImplementedError


def unjudged(**changes: Any) -> Unjudged:
    """`pick_cube` with `changes` of its fields, judged by nobody."""
    cube = get_task("pick_cube")
    return Unjudged(**{field.name: getattr(cube, field.name) for field in fields(Task)} | changes)
