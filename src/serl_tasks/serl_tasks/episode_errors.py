# SPDX-License-Identifier: Apache-2.0
"""How wrong it is what a robot knows: of its own tool, of where things are, and from one measurement to the next.

An error of a pose is drawn once in an episode, from the episode's seed alone. So whoever knows the seed knows the same
of the world (the environment in one process, the actor of a graph, the scripted person) without talking to the others.
What is judged, and what a person watches to take over, is the truth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator, suggestion
from serl_robots.model.pose import Pose, quaternion_exp, quaternion_multiply

from serl_tasks.arm_sample import TOOL, ArmSample

BOUND = 3.0
"""Standard deviations that no error exceeds: what lies outside is drawn again."""

Deviations = tuple[float, float, float]


@config(kw_only=True)
class ErrorSettings:
    """Standard deviations of what a task's robot does not know exactly. Without any it knows the truth."""

    tool_position: Deviations = Field(
        default=(0.0, 0.0, 0.0), description="of the measured tool position, an error of calibration, base frame [m]"
    )
    objects: dict[str, Deviations] = Field(
        default_factory=dict, description="of the known position of an object, by its name, base frame [m]"
    )
    objects_yaw_deg: dict[str, float] = Field(
        default_factory=dict, description="of the known turn of an object about the vertical, by its name"
    )
    observation_noise: float | dict[str, float] = Field(
        default=0.0,
        description="of each measured value of the state vector, as it is scaled, anew in every step; or by term",
    )

    @model_validator(mode="after")
    def _not_negative(self) -> ErrorSettings:
        noise = self.observation_noise
        given: dict[str, tuple[float, ...]] = {"tool_position": self.tool_position}
        given |= {f"objects.{name}": values for name, values in self.objects.items()}
        given |= {f"objects_yaw_deg.{name}": (value,) for name, value in self.objects_yaw_deg.items()}
        given |= {"observation_noise": tuple(noise.values()) if isinstance(noise, dict) else (noise,)}
        for key, values in given.items():
            if not all(value >= 0.0 for value in values):
                raise ValueError(f"{key}: expected standard deviations from 0, found {list(values)}")
        return self

    def check_objects(self, objects: Collection[str], flexible: Collection[str] = ()) -> None:
        """Raise ValueError where an error is that of an object which is not among `objects`, or of one that bends.

        Args:
            objects: names of all.
            flexible: names of those that have more than one pose, of which an error would move one alone.
        """
        for name in (*self.objects, *self.objects_yaw_deg):
            if name not in objects:
                raise ValueError(f"errors: there is no object {name!r}" + suggestion(name, [*objects]))
            if name in flexible:
                raise ValueError(
                    f"errors: expected none of {name!r}, which is flexible, as its points would stay where they are; "
                    "say how wrong the tool that holds it is by tool_position"
                )

    def draw(self, seed: int) -> EpisodeErrors:
        """The errors of the episode whose start state has this seed.

        Each has a random stream of its own, so that the others stay as they are where one is added or taken away.

        Raises:
            ValueError: `seed` is negative.
        """
        if seed < 0:
            raise ValueError(f"seed: expected an integer from 0, found {seed}")
        positions = {name: _drawn(values, seed, f"position of {name}") for name, values in self.objects.items()}
        yaws = {
            name: math.radians(_drawn((value,), seed, f"yaw of {name}")[0])
            for name, value in self.objects_yaw_deg.items()
        }
        tool = _drawn(self.tool_position, seed, "tool position")
        return EpisodeErrors(tool, positions, {name: yaw for name, yaw in yaws.items() if yaw})


@dataclass(frozen=True)
class EpisodeErrors:
    """What is wrong in one episode of what is measured and known: known value minus truth."""

    tool_position: NDArray[np.float64]
    """(3,) of the tool in the base frame [m], of the measured and of the commanded one: both are told by one model."""
    positions: Mapping[str, NDArray[np.float64]]
    """(3,) of objects, by name, base frame [m]."""
    yaws: Mapping[str, float]
    """Turns of objects about the vertical, by name [rad]."""

    def arm(self, arm: ArmSample) -> ArmSample:
        """The arm as it is known."""
        if not self.tool_position.any():
            return arm
        return arm.each(self._known)

    def _known(self, arm: ArmSample) -> ArmSample:
        commanded = None if arm.commanded is None else self._moved(arm.commanded)
        return dataclasses.replace(arm, tcp=self._moved(arm.tcp), commanded=commanded)

    def objects(self, objects: Mapping[str, Pose]) -> Mapping[str, Pose]:
        """The poses of objects, and of the tool if it is among them, as they are known."""
        wrong = {
            name: Pose(objects[name].position + error, objects[name].quaternion)
            for name, error in self.positions.items()
            if name in objects and error.any()
        }
        for name, yaw in self.yaws.items():
            if name in objects:
                pose = wrong.get(name, objects[name])
                x, y, z, w = pose.quaternion.tolist()
                turned = quaternion_multiply(quaternion_exp((0.0, 0.0, yaw)), (x, y, z, w))
                wrong[name] = Pose(pose.position, turned)
        if TOOL in objects and self.tool_position.any():
            wrong[TOOL] = self._moved(objects[TOOL])
        return {**objects, **wrong} if wrong else objects

    def _moved(self, tool: Pose) -> Pose:
        return Pose(tool.position + self.tool_position, tool.quaternion)


def observation_noise(size: int, seed: int, step: int) -> NDArray[np.float64]:
    """The standard normal numbers (size,) by which the observation before `step` of an episode is disturbed."""
    return np.random.default_rng([seed, step, *b"observation noise"]).standard_normal(size)


def _drawn(deviations: tuple[float, ...], seed: int, what: str) -> NDArray[np.float64]:
    """Normal errors (n,) of these standard deviations, none of which exceeds the bound."""
    size = len(deviations)
    if not any(deviations):
        return np.zeros(size)
    rng = np.random.default_rng([seed, *what.encode()])
    numbers = rng.standard_normal(size)
    while (outside := np.abs(numbers) > BOUND).any():
        numbers[outside] = rng.standard_normal(int(outside.sum()))
    return numbers * deviations
