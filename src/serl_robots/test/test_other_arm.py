# SPDX-License-Identifier: Apache-2.0
"""Two arms, each with a controller of its own: what one knows of the other is a moment old, or nothing."""

from collections import deque

import numpy as np
import pytest
from controller_rig import PERIOD, panda
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.control.arbitration import ActionInput
from serl_robots.control.arm_command import keep_apart_of
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask, load_arm_task
from serl_robots.control.control_step import Command, Measured
from serl_robots.control.move_to import MoveRejected
from serl_robots.model.pose import Pose
from serl_robots.safety.keep_apart import nearest_points
from serl_robots.safety.other_arm import OtherArm
from serl_robots.safety.source import Source

TICK = 0.01  # [s] between joint states in real time
TASK = load_arm_task("lift_bar")
# Hands that stand 30 cm from each other, in the middle between the bases.
STARTS = {"left": Pose((0.5, -0.15, 0.2), TASK.limits.reference_orientation)}
STARTS["right"] = Pose((0.5, 0.15, 0.2), TASK.limits.reference_orientation)
TOWARDS = {"left": (0.0, -1.0, 0.0, 1.0), "right": (0.0, 1.0, 0.0, 1.0)}


class Arm:
    """A controller and an arm that is where it was commanded to be, one state later."""

    def __init__(self, name: str, *, lockstep: bool, task: ArmTask = TASK) -> None:
        robot, kinematics = panda()
        self.name = name
        keep_apart = keep_apart_of(task, name, kinematics)
        assert keep_apart is not None
        self.other = OtherArm(keep_apart, lockstep=lockstep)
        self.controller = ArmController(task.of_arm(name), robot, kinematics, lockstep=lockstep, other=self.other)
        self.joints = np.array(robot.named_configurations["home"])
        self.tcp = self.commanded = STARTS[name]
        self.commands: list[Command] = []

    def take(self, command: Command | None) -> Command | None:
        if command is not None:
            self.commands.append(command)
            self.commanded = command.target
        return command

    def state(self, stamp_ns: int, now: float) -> Command | None:
        self.tcp = self.commanded
        return self.take(self.controller.on_state(Measured(stamp_ns, self.tcp, self.joints, 0.08, now)))

    def policy(self, step: int, action: tuple[float, ...], now: float, stamp_ns: int = 0) -> Command | None:
        return self.take(self.controller.on_policy(ActionInput(1, step, action, stamp_ns), now))


def gap(arms: list[Arm]) -> float:
    """Distance of the two hands as they are commanded [m]."""
    wrist = panda()[1].wrist
    ends = []
    for arm in arms:
        pose = TASK.base(arm.name).compose(arm.commanded)
        ends += [pose.position, pose.transform(wrist)]
    near, far = nearest_points(*ends)
    return float(np.linalg.norm(far - near))


def pair(*, lockstep: bool) -> list[Arm]:
    arms = [Arm(name, lockstep=lockstep) for name in ("left", "right")]
    assert gap(arms) == pytest.approx(0.3)
    return arms


def tell(arm: Arm, to: Arm, now: float) -> Command | None:
    """The newest state of an arm gets to the controller of the other one."""
    measured, target = arm.controller.measured, arm.controller.target
    assert measured is not None and target is not None
    return to.take(to.controller.on_other_arm(target, measured.tcp, measured.stamp_ns, now))


@given(
    seed=st.integers(0, 2**32 - 1),
    delay=st.sampled_from([0.0, 0.01, 0.02]),
    lost=st.sampled_from([0.0, 0.5, 0.9]),
    eager=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_hands_keep_their_distance_whatever_is_late_or_lost(seed: int, delay: float, lost: float, eager: bool) -> None:
    rng = np.random.default_rng(seed)
    arms = pair(lockstep=False)
    now, stamp_ns = 100.0, 5_000_000_000
    ways: dict[str, deque[tuple[float, Pose, Pose, int]]] = {arm.name: deque() for arm in arms}
    phase, steps, moved = int(rng.integers(10)), [0, 0], 0.0
    for arm in arms:
        arm.controller.on_timer(now)
        arm.controller.on_episode(1, running=True, human_expected=False, now=now)
    for tick in range(400):
        now, stamp_ns = now + TICK, stamp_ns + 10_000_000
        for arm, other in (arms, arms[::-1]):
            arm.state(stamp_ns, now)
            if rng.random() >= lost:
                target = arm.controller.target
                assert target is not None
                ways[other.name].append((now + delay * rng.random(), target, arm.tcp, stamp_ns))
            while ways[arm.name] and ways[arm.name][0][0] <= now:
                _, target, tcp, told_ns = ways[arm.name].popleft()
                arm.take(arm.controller.on_other_arm(target, tcp, told_ns, now))
            assert gap(arms) >= 0.15 - 1e-9
        for index, arm in enumerate(arms):
            if tick % 10 == (phase * index) % 10:
                action = TOWARDS[arm.name] if eager else tuple(rng.uniform(-1.0, 1.0, 4).tolist())
                arm.policy(steps[index], action, now, stamp_ns)
                steps[index] += 1
                assert gap(arms) >= 0.15 - 1e-9
        moved = max(moved, 0.3 - gap(arms))
    assert all(arm.commands for arm in arms)
    if eager and lost < 0.9:
        assert moved > 0.03  # they do come nearer


def test_in_lockstep_each_waits_for_what_the_other_was_commanded_before() -> None:
    arms = pair(lockstep=True)
    left, right = arms
    stamp_ns, now = 5_000_000_000, 100.0
    for arm in arms:
        arm.controller.on_episode(1, running=True, human_expected=False, now=now)
    for step in range(8):
        before = gap(arms)
        for arm in arms:
            arm.state(stamp_ns, now)
        assert left.policy(step, TOWARDS["left"], now) is None  # nothing is known of the right one on this state
        assert right.policy(step, TOWARDS["right"], now) is None
        told = [(arm.controller.target, arm.tcp) for arm in arms]
        for arm, (target, tcp) in zip(arms, told[::-1], strict=True):
            assert target is not None
            assert arm.take(arm.controller.on_other_arm(target, tcp, stamp_ns, now)) is not None
        assert 0.15 - 1e-9 <= gap(arms) <= before + 1e-9
        stamp_ns += round(PERIOD * 1e9)
    assert gap(arms) == pytest.approx(0.15, abs=1e-6)
    assert "keep_apart" in left.commands[-1].limits


def test_who_hears_nothing_of_the_other_arm_brakes_and_stands() -> None:
    arms = pair(lockstep=False)
    left, right = arms
    now, stamp_ns = 100.0, 5_000_000_000
    left.controller.on_timer(now)
    for step in range(12):
        for tick in range(10):
            now, stamp_ns = now + TICK, stamp_ns + 10_000_000
            left.state(stamp_ns, now)
            if step < 5:
                right.state(stamp_ns, now)
                tell(right, left, now)
            if tick == 0:
                left.policy(step, (1.0, 0.0, 0.0, 1.0), now, stamp_ns)
    x = [command.target.position[0] for command in left.commands if command.source is Source.POLICY]
    assert x[3] > x[0] + 0.05
    assert x[-1] == x[-3]
    assert left.commands[-1].limits == ("keep_apart",)


def test_a_stop_of_the_other_arm_stops_this_one_and_each_is_released_by_itself() -> None:
    arm = Arm("left", lockstep=False)
    arm.state(5_000_000_000, 100.0)
    assert arm.controller.on_other_stop(stopped=False) is None
    arm.take(arm.controller.on_other_stop(stopped=True))
    assert arm.controller.safety.estop
    arm.controller.reset_estop()
    arm.controller.on_other_stop(stopped=True)  # it says so every second
    assert not arm.controller.safety.estop
    arm.controller.on_other_stop(stopped=False)
    arm.controller.on_other_stop(stopped=True)
    assert arm.controller.safety.estop


def test_motions_of_the_joints_are_refused_beside_another_arm() -> None:
    arm = Arm("left", lockstep=False)
    arm.state(5_000_000_000, 100.0)
    with pytest.raises(MoveRejected, match="keep their hands apart"):
        arm.controller.move_to_joints(arm.joints, 1.0, lambda _: None, 100.0)
