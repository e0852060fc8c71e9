# SPDX-License-Identifier: Apache-2.0
"""A kind of task for actions of any kind, which nobody judges. Who imports this module has registered it."""

from collections.abc import Mapping

import numpy as np
from serl_config.schema import Field, config
from serl_robots.model.pose import Pose

from serl_tasks import Expert, Judgement, Task, register


@register("any_action")
@config(kw_only=True)
class AnyAction(Task):
    """Goes on to its horizon."""

    success: dict[str, float] = Field(default_factory=dict, description="as the extended task has it; not used")

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """Neither good nor bad."""
        return Judgement(reward=0.0, success=False, terminated=False)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Nowhere to go."""
        return 0.0

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """There is none."""
        raise NotImplementedError("nobody knows how it is done")
