# SPDX-License-Identifier: Apache-2.0
"""What a task is: a file in ``config/tasks`` and a class that judges and knows how it is done."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator, suggestion
from serl_robots.control.arm_task import ArmTask
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import TOOL, ArmSample, together, tool_name
from serl_tasks.camera_view import CameraView
from serl_tasks.episode_errors import ErrorSettings
from serl_tasks.objects.scene_object import SceneObject
from serl_tasks.observation import StateTerm, StateVector
from serl_tasks.observer import Observer
from serl_tasks.state_terms import JOINT_TERMS


@dataclass(frozen=True)
class Judgement:
    """What a state is worth."""

    reward: float
    success: bool
    terminated: bool
    """The episode ends here by itself. A time limit is not the task's business."""


class Expert(Protocol):
    """Somebody who knows how the task is done. Remembers nothing that matters, so it may take over from any state.

    What it acts on is what is known of arm and objects (`Observer.known`), not the truth.
    """

    def reset(self) -> None:
        """Begin an episode."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """Normalized action for this state, float32 (n,) in [-1, 1]."""


@config(kw_only=True)
class StartState:
    """Where the arm is when an episode begins. The tool has the reference orientation of the limits."""

    tcp_position: tuple[float, float, float] = Field(
        description="base frame [m]; with `beside` the way from where that object is known to be"
    )
    gripper_width: float = Field(ge=0.0, description="[m]")
    beside: str | None = Field(default=None, description="object from whose known position tcp_position counts")
    spread: tuple[float, float, float] = Field(
        default=(0.0, 0.0, 0.0), description="largest distance from tcp_position along each axis, drawn uniformly [m]"
    )

    @model_validator(mode="after")
    def _not_negative(self) -> "StartState":
        if not all(value >= 0.0 for value in self.spread):
            raise ValueError(f"spread: expected distances from 0, found {list(self.spread)}")
        return self

    @property
    def varies(self) -> bool:
        """Whether it is another one in each episode."""
        return self.beside is not None or any(self.spread)


@config(kw_only=True)
class Task(ArmTask):
    """One task, from ``config/tasks/<name>.yaml``. Subclasses add what the file needs to say and how to judge."""

    kind: str = Field(description="class of the task, as registered")
    description: str
    world: str = Field(description="name of the simulated world, config/worlds/<world>.yaml")
    horizon: int = Field(ge=1, le=1_000_000, description="control steps until an episode is cut off")
    discount: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="what a reward is worth one control step earlier, where the learning settings' own is not right",
    )
    start: StartState
    objects: dict[str, SceneObject]
    state: tuple[StateTerm, ...] = Field(
        min_length=1, max_length=64, description="terms of the observation's state vector, in order"
    )
    errors: ErrorSettings = Field(
        default_factory=ErrorSettings, description="standard deviations of what the robot does not know exactly"
    )
    cameras: dict[str, CameraView] = Field(
        default_factory=dict, max_length=16, description="what is seen, by the camera's name"
    )
    plausible_state: float = Field(
        default=1e3, gt=0.0, description="largest magnitude of a value of the state vector that is worth learning from"
    )
    plausible_reward: float = Field(default=1e4, gt=0.0, description="the same of a reward")
    learning: str = Field(default="rlpd_state", description="config/learning/<learning>.yaml, where no other is named")
    demonstration_noise: float = Field(
        default=0.3,
        ge=0.0,
        le=2.0,
        description="unsteadiness of the scripted person who demonstrates: standard deviation added to actions",
    )

    @model_validator(mode="after")
    def _terms_exist(self) -> "Task":
        if self.arms:
            self._check_for_two_arms()
        if TOOL in self.objects:
            raise ValueError(f"objects: {TOOL!r} is the tool; give the object another name")
        if "state" in self.cameras:
            raise ValueError("cameras: 'state' is the state vector; give the camera another name")
        for name, item in self.objects.items():
            if item.joint is None:
                continue
            base = self.objects.get(item.joint.base)
            if base is None or base.mount != "fixed":
                found = "none of that name" if base is None else f"one that is {base.mount}"
                key = "slide" if item.slide is not None else "hinge"
                raise ValueError(
                    f"objects.{name}.{key}.base: expected a fixed object {item.joint.base!r}, found {found}"
                )
        self.errors.check_objects(self.objects, [name for name, item in self.objects.items() if item.flexible])
        beside = self.start.beside
        if beside is not None and (beside not in self.objects or not self.objects[beside].has_place):
            known = [name for name, item in self.objects.items() if item.has_place]
            raise ValueError(
                f"start.beside: expected an object that is not held, found {beside!r}{suggestion(beside, known)}"
            )
        names = self.pose_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"objects: expected other names than those of a cable's points, found {', '.join(twice)}")
        _ = self._state_vector.noise(self.errors)
        return self

    def _check_for_two_arms(self) -> None:
        """Raise ValueError where the task asks for what only a single arm has."""
        held = [name for name, item in self.objects.items() if item.mount == "held"]
        if held:
            raise ValueError(
                f"objects: expected none that is held, because there are two arms, found {', '.join(held)}"
            )
        if self.start.beside is not None:
            raise ValueError(f"start.beside: expected none, because there are two arms, found {self.start.beside!r}")
        if any(self.errors.tool_position):
            raise ValueError("errors.tool_position: expected none, because there are two arms")

    @cached_property
    def pose_names(self) -> tuple[str, ...]:
        """Names of all poses that a world of the task has beside the tool's: of objects and of their points."""
        return tuple(pose for name, item in self.objects.items() for pose in (name, *item.points(name)))

    @cached_property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools among the poses of a world: ``tcp``, of two arms ``left/tcp`` and so on."""
        return tuple(tool_name(arm) for arm in self.arm_names)

    def joined(self, arms: Mapping[str, ArmSample]) -> ArmSample:
        """What is measured of all arms, from that of each by its prefix, in the frame of its base."""
        if not self.arms:
            return arms[""]
        return together({name: arms[name].placed(self.base(name)) for name in self.arm_names})

    @property
    def may_diverge(self) -> bool:
        """Whether something in it, when simulated, is apt to become numerically unstable: a chain of light links."""
        return any(item.flexible is not None for item in self.objects.values())

    def asked_widths(self) -> dict[str, float]:
        """Every opening of the gripper that the task asks for [m], by the key of its file that says so."""
        return {**super().asked_widths(), "start.gripper_width": self.start.gripper_width}

    @cached_property
    def observation_space(self) -> gym.spaces.Dict:
        """``{"state": float32 (k,), "<camera>": uint8 (H, W, 3), ...}``."""
        spaces: dict[str, gym.Space[Any]] = {
            "state": gym.spaces.Box(-np.inf, np.inf, (self._state_vector.size,), np.float32)
        }
        spaces |= {name: gym.spaces.Box(0, 255, view.shape, np.uint8) for name, view in self.cameras.items()}
        return gym.spaces.Dict(spaces)

    @cached_property
    def action_space(self) -> gym.spaces.Box:
        """float32 (n,) in [-1, 1]."""
        return gym.spaces.Box(-1.0, 1.0, (len(self.action),), np.float32)

    @cached_property
    def meaning(self) -> dict[str, Any]:
        """Everything that gives the numbers of observations, actions and rewards their meaning, as a tree for JSON.

        Not what only shapes what happens: limits, start, horizon, discount, objects, errors, learning, the person.
        """
        state = [
            {"name": f"{term.name}[{index}]", "shift": shift, "scale": scale} | self._particulars(term)
            for term in self.state
            for index, (shift, scale) in enumerate(zip(term.shift, term.scale, strict=True))
        ]
        action = [{"name": n, "scale": s} for n, s in zip(self.action.names, self.action.scale, strict=True)]
        judging = {field.name for field in fields(type(self))} - {field.name for field in fields(Task)}
        # The base says nothing of itself, as what was stored before there was another frame.
        frame = {} if self.frame == "base" else {"frame": self.frame}
        arms = {"arms": {name: asdict(place) for name, place in self.arms.items()}} if self.arms else {}
        return (
            frame
            | arms
            | {
                "kind": self.kind,
                "robot": self.robot,
                "control_period": self.control_period,
                "state": state,
                "action": action,
                "cameras": {name: asdict(view) for name, view in self.cameras.items()},
                "judging": {name: value for name, value in asdict(self).items() if name in judging},
            }
        )

    def _particulars(self, term: StateTerm) -> dict[str, Any]:
        """What else gives the values of a term their meaning, if anything does."""
        clip = {} if term.clip is None else {"clip": term.clip}
        return clip | ({"horizon": self.horizon} if term.name == "time" else {})

    @property
    def observed_objects(self) -> tuple[str, ...]:
        """Objects whose true poses the state vector takes; where nobody knows those the task cannot be observed."""
        return self._state_vector.observed_objects

    @property
    def measures_wrench(self) -> bool:
        """Whether a force and torque sensor is needed, for an observation or for a limit."""
        return self.observes_wrench or self.limits.max_force > 0.0 or self.limits.max_torque > 0.0

    @property
    def observes_wrench(self) -> bool:
        """Whether the state vector takes force or torque at the wrist, which somebody has to measure."""
        return self._state_vector.observes_wrench

    def check_joints(self, joints: int) -> None:
        """Raise ValueError where a term of joints does not have a value for each of this number of joints."""
        for term in self.state:
            if term.name.rpartition("/")[2] in JOINT_TERMS and len(term.shift) != joints:
                raise ValueError(
                    f"{term.name!r}: expected a value for each of the {joints} joints of {self.robot!r}, found "
                    f"{len(term.shift)}"
                )

    @cached_property
    def _state_vector(self) -> StateVector:
        return StateVector(self.state, self.pose_names, len(self.action), self.arm_names if self.arms else ())

    def make_observer(self) -> Observer:
        """Make what turns measurements of an episode into the entry ``state`` of its observations."""
        return Observer(
            self._state_vector,
            self.errors,
            frame=self.frame,
            horizon=self.horizon,
            action_size=len(self.action),
        )

    def in_action_frame(self, vector: NDArray[np.float64], arm: ArmSample) -> NDArray[np.float64]:
        """A way [m] or turn [rad] (3,) of the base frame as the action's deltas have it, for experts."""
        if self.frame == "base":
            return vector
        commanded = arm.tcp if arm.commanded is None else arm.commanded
        return commanded.rotation_matrix().T @ vector

    def sample_objects(self, rng: np.random.Generator) -> dict[str, Pose]:
        """Draw where every object lies at the start that is free or fixed, base frame."""
        return {name: item.sample(rng) for name, item in self.objects.items() if item.has_place}

    @property
    def middle_start(self) -> Pose:
        """Middle of the poses at which the tool may start, base frame."""
        beside = self.start.beside
        origin = (0.0, 0.0, 0.0) if beside is None else self.objects[beside].middle
        x, y, z = (a + b for a, b in zip(origin, self.start.tcp_position, strict=True))
        return Pose((x, y, z), self.limits.reference_orientation)

    def start_pose(self, rng: np.random.Generator, known: Mapping[str, Pose]) -> Pose:
        """Draw where the tool starts, base frame.

        Args:
            rng: gives three numbers.
            known: poses of the objects as the robot knows them.
        """
        beside = self.start.beside
        origin = np.zeros(3) if beside is None else known[beside].position
        spread = np.array(self.start.spread)
        return Pose(origin + self.start.tcp_position + rng.uniform(-spread, spread), self.limits.reference_orientation)

    @abstractmethod
    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """Judge the true state of the world: poses of all objects and of ``"tcp"`` in the base frame."""

    @abstractmethod
    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """How far the task still has to go [m]; falls while somebody works well. For whoever watches, not a reward."""

    @abstractmethod
    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """Make a scripted expert whose actions carry Gaussian `noise` (standard deviation, normalized) from `rng`."""


def with_noise(action: NDArray[Any], noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The action (n,) with Gaussian noise of standard deviation `noise`, clipped to [-1, 1], float32 (n,)."""
    if noise > 0.0:
        action = action + noise * rng.standard_normal(len(action))
    return np.clip(action, -1.0, 1.0).astype(np.float32)
