# SPDX-License-Identifier: Apache-2.0
"""A world in time: which command leads, when the world moves, and what its clock says then.

In lockstep the world moves one control period when a command is complete: a gripper width and either a tool pose or a
joint trajectory that says which state it starts from; or any other joint trajectory by itself. Otherwise somebody calls
`advance` as time goes on, and commands act at once.

Of two arms each is commanded by itself, by tool poses and widths, and a world in lockstep moves when both commands are
complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.pose import Pose

from serl_sim.scene.scene import TIMESTEP
from serl_sim.world import SLICE, SimulationError, World

TIMESTEP_NS: Final = round(TIMESTEP * 1e9)

Observer = Callable[[bool], bool]
"""Called after each advance, and with True when the world was reset; returns whether it has seen enough."""


class CommandRefused(ValueError):
    """A command that cannot be executed; the message says why."""


class Simulation:
    """One world, its time and its commands."""

    def __init__(self, world: World, *, lockstep: bool) -> None:
        """Begin at the end of one control period: time 0 means "not set" in ROS."""
        self.world = world
        self.lockstep = lockstep
        self.stamp_ns = world.steps_per_period * TIMESTEP_NS
        """Simulated time [ns]; never goes back, not even when the world is reset."""
        self.episode = 0
        self.paused = False
        self.broken = ""
        """Why the world cannot move until it is reset; empty while it can."""
        self.arms = tuple(world.arms)
        """Prefixes of the arms; of a single one the empty one."""
        self.targets: dict[str, Pose] = {}
        """Tool poses that are commanded, by arm, each in the frame of its base."""
        self.widths = dict.fromkeys(self.arms, world.task.start.gripper_width)
        """Gripper widths that are commanded [m], by arm."""
        self.physics_steps = 0
        """Physics steps since the start."""
        self._reset_steps = 0
        self._pending_poses: dict[str, Pose] = {}
        self._pending_widths: dict[str, float] = {}
        self._pending_trajectory: JointTrajectoryPlan | None = None
        self._trajectory: JointTrajectoryPlan | None = None
        self._trajectory_time = 0.0
        self._observers: list[Observer] = []

    # State

    @property
    def step(self) -> int:
        """Whole control periods since the reset."""
        return (self.physics_steps - self._reset_steps) // self.world.steps_per_period

    @property
    def can_move(self) -> bool:
        """Whether the world is neither paused nor broken."""
        return not (self.paused or self.broken)

    @property
    def is_complete(self) -> bool:
        """Whether a target and a width are there, of each arm, so that a world in lockstep can move."""
        return len(self._targeted) == len(self._pending_widths) == len(self.arms)

    @property
    def _targeted(self) -> set[str]:
        """Arms that a target waits for."""
        return {*self._pending_poses, *((self.arms[0],) if self._pending_trajectory is not None else ())}

    @property
    def target(self) -> Pose | None:
        """Tool pose that is commanded, if one is, of the only arm or the first one."""
        return self.targets.get(self.arms[0])

    @property
    def width(self) -> float:
        """Gripper width that is commanded [m], of the only arm or the first one."""
        return self.widths[self.arms[0]]

    @property
    def is_busy(self) -> bool:
        """Whether a trajectory or an action is under way, so that a world in lockstep moves on by itself."""
        return self._trajectory is not None or bool(self._observers)

    @property
    def has_half_a_command(self) -> bool:
        """Whether a part of a command is there and the rest is not."""
        return bool(self._targeted or self._pending_widths) and not self.is_complete

    def waits_for(self) -> str:
        """What has to come before a world in lockstep moves; empty when nothing has to."""
        if self.broken:
            return f"sim/reset: {self.broken}"
        if self.paused:
            return "sim/pause with data false"
        if self.is_busy or self.is_complete:
            return ""
        missing = []
        for arm in self.arms:
            before = f"{arm}/" if arm else ""
            missing += [] if arm in self._targeted else [f"{before}target_pose"]
            missing += [] if arm in self._pending_widths else [f"{before}gripper_controller/commands"]
        return " and ".join(missing)

    # Commands

    def reset(self, seed: int, episode: int, objects: Mapping[str, Pose] | None = None) -> None:
        """Go to the start state of `seed`, one control period later; commands that wait are dropped.

        Args:
            seed: any integer from 0.
            episode: number of the episode that begins.
            objects: poses of some objects, instead of those that the seed gives.

        Raises:
            ValueError: `seed` is negative, there is no such object, or something is in the tool's way.
        """
        self.world.reset(seed, objects)
        self.broken = ""
        self.targets.clear()
        self.widths = dict.fromkeys(self.arms, self.world.task.start.gripper_width)
        self._trajectory = None
        self._begin(episode)
        self.stamp_ns += self.world.steps_per_period * TIMESTEP_NS
        observers, self._observers = self._observers, []
        for observer in observers:
            observer(True)

    def keep(self, episode: int) -> None:
        """Begin an episode where everything is: nothing moves, no time passes; commands that wait are dropped.

        Args:
            episode: its number.

        Raises:
            ValueError: the world is broken.
        """
        if self.broken:
            raise ValueError(f"nothing can be kept: {self.broken}")
        self._begin(episode)

    def _begin(self, episode: int) -> None:
        self.episode = episode
        self._drop_pending()
        self._reset_steps = self.physics_steps

    def _drop_pending(self) -> None:
        self._pending_poses.clear()
        self._pending_widths.clear()
        self._pending_trajectory = None

    def command_pose(self, pose: Pose, stamp_ns: int, arm: str = "") -> None:
        """Lead the tool to `pose`.

        Args:
            pose: of the tool in the frame of the arm's base.
            stamp_ns: of the state that the command starts from; 0 if it does not say.
            arm: prefix of one of several.

        Raises:
            CommandRefused: the command starts from another state than this one (in lockstep only).
        """
        if not self.lockstep:
            self._lead_by_pose(pose, arm)
            return
        self._check_stamp(stamp_ns, arm)
        self._pending_poses[arm], self._pending_trajectory = pose, None

    def _check_stamp(self, stamp_ns: int, arm: str) -> None:
        if stamp_ns not in (0, self.stamp_ns):
            self._pending_widths.pop(arm, None)  # the width that came with it
            raise CommandRefused(
                f"it starts from the state at {stamp_ns / 1e9:.3f} s, and the world is at {self.stamp_ns / 1e9:.3f} s"
            )

    def command_width(self, width: float, arm: str = "") -> None:
        """Move the fingers of an arm to a distance of `width` [m] from each other.

        Raises:
            CommandRefused: not finite.
        """
        if not math.isfinite(width):
            raise CommandRefused(f"expected a finite width, found {width}")
        if self.lockstep:
            self._pending_widths[arm] = width
        else:
            self._lead_by_width(width, arm)

    def command_trajectory(self, plan: JointTrajectoryPlan, stamp_ns: int = 0) -> None:
        """Lead the arm joints along `plan`, from now on; of a single arm alone.

        Args:
            plan: where they go.
            stamp_ns: of the state that the command starts from; 0 if it does not say. In lockstep one that says so is
                one of two halves, as a pose is: a gripper width belongs to it.

        Raises:
            CommandRefused: the command starts from another state than this one (in lockstep only).
        """
        if self.lockstep and stamp_ns:
            self._check_stamp(stamp_ns, self.arms[0])
            self._pending_trajectory = plan
            self._pending_poses.clear()
            return
        self._drop_pending()
        self._lead_by_trajectory(plan)

    def _lead_by_trajectory(self, plan: JointTrajectoryPlan) -> None:
        self.targets.clear()
        self._trajectory = plan
        self._trajectory_time = 0.0

    def grip(self, width: float) -> None:
        """Move the fingers to `width` [m] without waiting for a pose. Combine with `observe`."""
        self._lead_by_width(width, self.arms[0])

    def observe(self, observer: Observer) -> None:
        """Call `observer` until it returns True. A world in lockstep moves on by itself as long as one is there."""
        self._observers.append(observer)

    def is_following(self, plan: JointTrajectoryPlan) -> bool:
        """Whether `plan` still leads."""
        return self._trajectory is plan

    # Time

    def take_step(self) -> bool:
        """Move one control period, with the commands that wait. False when the world broke."""
        for arm, pose in self._pending_poses.items():
            self._lead_by_pose(pose, arm)
        if self._pending_trajectory is not None:
            self._lead_by_trajectory(self._pending_trajectory)
        for arm, width in self._pending_widths.items():
            self._lead_by_width(width, arm)
        self._drop_pending()
        return self.advance(self.world.steps_per_period)

    def advance(self, steps: int) -> bool:
        """Let `steps` physics steps pass. False when the world broke."""
        try:
            self._move(steps)
        except SimulationError as error:
            self.broken = str(error)
        self.physics_steps += steps
        self.stamp_ns += steps * TIMESTEP_NS
        self._notify()
        return not self.broken

    def _move(self, steps: int) -> None:
        while self._trajectory is not None and steps > 0:
            some = min(SLICE, steps)
            steps -= some
            self._trajectory_time += some * TIMESTEP
            self.world.command_joints(self._trajectory.at(self._trajectory_time))
            if self._trajectory_time >= self._trajectory.duration - 0.5 * TIMESTEP:
                self._trajectory = None
            self.world.advance(some)
        if steps > 0:
            self.world.advance(steps)

    def _lead_by_pose(self, pose: Pose, arm: str) -> None:
        self.world.command_pose(pose, arm)
        self.targets[arm] = pose
        self._trajectory = None

    def _lead_by_width(self, width: float, arm: str) -> None:
        self.world.command_gripper(width, arm)
        self.widths[arm] = width

    def _notify(self) -> None:
        if self._observers:
            self._observers = [observer for observer in self._observers if not observer(False)]
