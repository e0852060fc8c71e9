# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.pose import Pose
from serl_sim.simulation import CommandRefused, Simulation
from serl_sim.world import World

from serl_tasks import get_task

HOME = Pose((0.5, 0.0, 0.2), (1.0, 0.0, 0.0, 0.0))
PERIOD_NS = 100_000_000
WORLD = World(get_task("pick_cube"))


@pytest.fixture
def lockstep():
    simulation = Simulation(WORLD, lockstep=True)
    simulation.reset(0, episode=1)
    return simulation


def test_a_step_needs_a_pose_and_a_width_in_either_order(lockstep):
    lockstep.command_width(0.08)
    assert not lockstep.is_complete
    assert lockstep.waits_for() == "target_pose"
    lockstep.command_pose(HOME, lockstep.stamp_ns)
    assert lockstep.is_complete
    before = lockstep.stamp_ns
    assert lockstep.take_step()
    assert lockstep.stamp_ns == before + PERIOD_NS
    assert lockstep.step == 1
    assert not lockstep.is_complete
    lockstep.command_pose(HOME, lockstep.stamp_ns)
    assert lockstep.waits_for() == "gripper_controller/commands"
    lockstep.command_width(0.08)
    assert lockstep.is_complete


def test_a_pose_for_another_state_is_refused_with_its_width(lockstep):
    lockstep.command_width(0.0)
    with pytest.raises(CommandRefused, match="it starts from the state at"):
        lockstep.command_pose(HOME, lockstep.stamp_ns - PERIOD_NS)
    assert not lockstep.has_half_a_command
    assert lockstep.waits_for() == "target_pose and gripper_controller/commands"


def test_a_pose_without_a_stamp_is_meant_for_now(lockstep):
    lockstep.command_pose(HOME, 0)
    assert lockstep.has_half_a_command


def test_a_width_that_is_not_finite_is_refused(lockstep):
    with pytest.raises(CommandRefused, match="finite width"):
        lockstep.command_width(float("nan"))
    assert not lockstep.has_half_a_command


def test_a_reset_drops_what_waits_and_begins_a_new_episode(lockstep):
    lockstep.command_pose(HOME, lockstep.stamp_ns)
    lockstep.command_width(0.08)
    lockstep.take_step()
    lockstep.command_width(0.0)
    before = lockstep.stamp_ns
    lockstep.reset(3, episode=2)
    assert (lockstep.episode, lockstep.step) == (2, 0)
    assert lockstep.stamp_ns == before + PERIOD_NS
    assert not lockstep.has_half_a_command
    with pytest.raises(ValueError, match="seed"):
        lockstep.reset(-3, episode=3)


def test_an_episode_may_begin_where_everything_is(lockstep):
    lockstep.command_width(0.02)
    lockstep.command_pose(HOME, lockstep.stamp_ns)
    lockstep.take_step()
    before, stamp_ns = lockstep.world.data.qpos.copy(), lockstep.stamp_ns
    lockstep.command_width(0.08)
    lockstep.keep(episode=7)
    assert (lockstep.episode, lockstep.step, lockstep.stamp_ns) == (7, 0, stamp_ns)
    assert (lockstep.world.data.qpos == before).all()
    assert not lockstep.has_half_a_command, "what waited was for the episode before"
    assert (lockstep.target, lockstep.width) == (HOME, 0.02), "what is commanded goes on"


def test_a_reset_may_put_objects_elsewhere(lockstep):
    place = Pose((0.42, 0.11, lockstep.world.objects()["cube"].position[2]))
    lockstep.reset(5, episode=2, objects={"cube": place})
    np.testing.assert_allclose(lockstep.world.objects()["cube"].position, place.position, atol=1e-4)


def test_a_paused_world_says_so(lockstep):
    lockstep.paused = True
    assert not lockstep.can_move
    assert lockstep.waits_for() == "sim/pause with data false"


def test_a_broken_world_waits_for_a_reset(lockstep):
    lockstep.world.data.qvel[:] = 1e12
    assert not lockstep.take_step()
    assert not lockstep.can_move
    assert lockstep.waits_for().startswith("sim/reset: the simulation diverged")
    with pytest.raises(ValueError, match="nothing can be kept: the simulation diverged"):
        lockstep.keep(episode=2)
    lockstep.reset(0, episode=2)
    assert lockstep.can_move
    assert lockstep.take_step()


def test_a_set_point_for_one_period_takes_one_step(lockstep):
    start = lockstep.world.joint_positions[:7]
    goal = start + 0.02
    lockstep.command_trajectory(JointTrajectoryPlan([0.0, 0.1], [start, goal]))
    assert lockstep.is_busy
    assert lockstep.take_step()
    assert not lockstep.is_busy
    np.testing.assert_allclose(lockstep.world.data.ctrl[6:13], goal, rtol=1e-12)


def test_a_pose_ends_a_trajectory(lockstep):
    start = lockstep.world.joint_positions[:7]
    lockstep.command_trajectory(JointTrajectoryPlan([0.0, 5.0], [start, start + 0.2]))
    lockstep.take_step()
    assert lockstep.is_busy
    lockstep.command_pose(HOME, lockstep.stamp_ns)
    lockstep.command_width(0.08)
    lockstep.take_step()
    assert not lockstep.is_busy


def test_an_observer_sees_every_advance_until_it_has_seen_enough(lockstep):
    seen = []

    def observe(was_reset):
        seen.append(was_reset)
        return len(seen) == 2

    lockstep.observe(observe)
    for _ in range(4):
        lockstep.take_step()
    assert seen == [False, False]
    lockstep.observe(observe)
    lockstep.reset(0, episode=5)
    assert seen == [False, False, True]
    assert not lockstep.is_busy


def test_a_paced_world_obeys_at_once():
    simulation = Simulation(WORLD, lockstep=False)
    simulation.reset(0, episode=1)
    simulation.command_pose(Pose((0.45, 0.0, 0.2), HOME.quaternion), stamp_ns=1)
    simulation.command_width(0.0)
    for _ in range(100):
        simulation.advance(5)
    assert simulation.step == 10
    arm = WORLD.arm_sample()
    assert arm.tcp.position[0] == pytest.approx(0.45, abs=0.005)
    assert arm.gripper_width < 0.005


operations = st.lists(
    st.one_of(
        st.tuples(st.just("reset"), st.integers(0, 9)),
        st.tuples(st.just("step"), st.just(0)),
        st.tuples(st.just("advance"), st.integers(1, 60)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=20)
@given(operations)
def test_time_never_goes_back(operations):
    simulation = Simulation(WORLD, lockstep=True)
    for name, value in operations:
        before, steps = simulation.stamp_ns, simulation.step
        if name == "reset":
            simulation.reset(value, episode=value)
            assert (simulation.stamp_ns - before, simulation.step) == (PERIOD_NS, 0)
        elif name == "step":
            simulation.take_step()
            assert (simulation.stamp_ns - before, simulation.step) == (PERIOD_NS, steps + 1)
        else:
            simulation.advance(value)
            assert simulation.stamp_ns - before == value * 2_000_000


def test_a_trajectory_that_says_where_it_starts_waits_for_its_width(lockstep):
    plan = JointTrajectoryPlan([0.0, 0.1], [WORLD.arm_positions, WORLD.arm_positions + 0.01])
    lockstep.command_trajectory(plan, lockstep.stamp_ns)
    assert lockstep.has_half_a_command and not lockstep.is_complete
    assert lockstep.waits_for() == "gripper_controller/commands"
    lockstep.command_width(0.03)
    assert lockstep.is_complete
    assert lockstep.take_step()
    assert lockstep.width == 0.03
    assert not lockstep.is_busy and not lockstep.is_complete


def test_a_trajectory_for_another_state_is_refused_with_its_width(lockstep):
    plan = JointTrajectoryPlan.hold(WORLD.arm_positions)
    lockstep.command_width(0.03)
    with pytest.raises(CommandRefused, match="it starts from the state at"):
        lockstep.command_trajectory(plan, lockstep.stamp_ns - PERIOD_NS)
    assert not lockstep.has_half_a_command


def test_the_newer_of_pose_and_trajectory_leads(lockstep):
    plan = JointTrajectoryPlan.hold(WORLD.arm_positions)
    lockstep.command_trajectory(plan, lockstep.stamp_ns)
    lockstep.command_pose(HOME, lockstep.stamp_ns)
    lockstep.command_width(0.08)
    assert lockstep.take_step()
    assert lockstep.target == HOME
