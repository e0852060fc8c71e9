# SPDX-License-Identifier: Apache-2.0
"""A task whose world is a Gymnasium environment that others wrote, which judges itself."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import ConfigError, Field, config, model_validator
from serl_config.text import printable
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import TOOL, ArmSample
from serl_tasks.environment_mapping import EnvironmentMapping
from serl_tasks.kind_registry import register
from serl_tasks.state_terms import WRENCH_TERMS
from serl_tasks.task import Expert, Judgement, Task, with_noise

WORLD = "gym"
"""What such a task says under `world`."""


@register("gym")
@config(kw_only=True)
class GymTask(Task):
    """The node `gym_bridge` steps the environment and publishes its rewards.

    `objects` say how they are drawn and about where they begin; where they are is the environment's business.
    """

    environment: EnvironmentMapping
    variant: str | None = Field(
        default=None, description="where one file is many tasks: which, an argument 'variant' of gymnasium.make"
    )
    progress: tuple[str, str] = Field(
        description="two of the objects and 'tcp', whose distance falls while somebody works well"
    )

    @model_validator(mode="after")
    def _fits_its_environment(self) -> "GymTask":
        if self.world != WORLD:
            raise ValueError(f"world: expected {WORLD!r}, found {self.world!r}")
        expected = ("dx", "dy", "dz") + (() if self.environment.gripper is None else ("gripper",))
        if self.action.names != expected or self.frame != "base":
            raise ValueError(
                f"action.names: expected {' '.join(expected)} in the frame base, which is what the environment takes, "
                f"found {' '.join(self.action.names)} in the frame {self.frame}"
            )
        for key, names in (("environment.positions", self.environment.positions), ("environment.cameras", self.viewed)):
            wanted = self.objects if key.endswith("positions") else self.cameras
            if set(names) != set(wanted):
                raise ValueError(f"{key}: expected {', '.join(wanted) or 'none'}, found {', '.join(names) or 'none'}")
        if self.observes_wrench:
            asked = ", ".join(term.name for term in self.state if term.name in WRENCH_TERMS)
            raise ValueError(
                f"state: expected no terms of the wrench, which an environment does not tell, found {asked}; leave out "
                "what no sensor gives"
            )
        known = {TOOL, *self.objects}
        if not set(self.progress) <= known or len(set(self.progress)) < 2:
            raise ValueError(f"progress: expected two of {', '.join(sorted(known))}, found {', '.join(self.progress)}")
        return self

    @property
    def viewed(self) -> tuple[str, ...]:
        """Cameras that the environment has and the task wants."""
        return tuple(name for name in self.environment.cameras if name in self.cameras)

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """Raises RuntimeError: poses do not tell; the environment says it, and gym_bridge publishes that."""
        raise RuntimeError(
            f"task {self.name!r}: only its environment knows whether it is done, and gym_bridge publishes that on "
            "reward; expected a graph without the node reward"
        )

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """See :meth:`Task.distance_to_goal`."""
        one, other = (objects[name].position for name in self.progress)
        return float(np.linalg.norm(one - other))

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """See :meth:`Task.make_expert`. Raises ConfigError: the mapping names no teacher, or one that is not there."""
        name = self.environment.teacher
        if name is None:
            raise ConfigError(
                f"task {self.name!r}: its environment has no scripted person (environment.teacher); take "
                "demonstrations of a file, or lead by a device"
            )
        module, _, made = name.partition(":")
        try:
            teacher = getattr(import_module(module), made)(*(() if self.variant is None else (self.variant,)))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"task {self.name!r}: environment.teacher {name!r}: {printable(error)}{self.environment.advice}"
            ) from error
        return _Noisy(teacher, rng, noise * self.environment.teacher_noise)


class _Noisy:
    """A teacher whose actions carry noise."""

    def __init__(self, teacher: Any, rng: np.random.Generator, noise: float) -> None:
        self._teacher, self._rng, self._noise = teacher, rng, noise

    def reset(self) -> None:
        """Begin an episode."""
        self._teacher.reset()

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """Normalized action (A,) for this state."""
        return with_noise(np.asarray(self._teacher.act(arm, objects), np.float64), self._noise, self._rng)
