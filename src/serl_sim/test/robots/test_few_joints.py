# SPDX-License-Identifier: Apache-2.0
"""An arm of five joints cannot turn its tool freely: then the tool's place comes first."""

import numpy as np
import pytest
from serl_config.schema import ConfigError
from serl_robots.control.action import ActionSpec
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.task_robot import robot_of
from serl_robots.model.pose import Pose
from serl_sim.envs import TaskEnv

from serl_tasks import get_task

DOWN = Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
SECONDS = 2.0


@pytest.fixture(scope="module")
def env() -> TaskEnv:
    return TaskEnv("pick_cube_so101")


@pytest.mark.parametrize(
    ("position", "tilt"),
    [
        ((0.20, 0.0, 0.13), (0.0, 0.0, 0.0)),  # the wrist does not bend so far that the tool points down there
        ((0.20, 0.0, 0.05), (0.3, 0.0, 0.0)),  # sideways, which no joint does
        ((0.21, 0.06, 0.05), (0.2, 0.2, 0.3)),
        ((0.22, 0.05, 0.03), (0.0, 0.0, 0.2)),  # one that it can have
    ],
)
def test_an_orientation_that_cannot_be_reached_does_not_bend_the_position(env, position, tilt):
    world = env.world
    world.reset(0)
    target = Pose.from_rotation_vector(position, tilt).compose(DOWN)
    for _ in range(round(SECONDS / env.task.control_period)):
        world.step(target, 0.06)
    assert world.arm_sample().tcp.distance(target) < 5e-4


def test_a_tool_that_cannot_turn_as_commanded_is_not_taken_for_a_blocked_one(env):
    task = env.task
    integrator = CommandIntegrator(task.action, task.limits, task.control_period, env.world.kinematics)
    joints = env.world.arm_positions
    integrator.reset(Pose((0.2, 0.0, 0.09), DOWN.quaternion), 0.06, joints)
    tilted = Pose.from_rotation_vector((0.2, 0.0, 0.09), (0.0, 0.8, 0.0)).compose(DOWN)
    periods = round(2.0 * task.limits.tracking_timeout / task.control_period)
    assert not any(integrator.observe(tilted, task.control_period, joints) for _ in range(periods))
    away = Pose((0.2, 0.0, 0.2), DOWN.quaternion)
    assert any(integrator.observe(away, task.control_period, joints) for _ in range(periods))


def test_a_task_that_moves_the_tool_in_more_ways_than_the_arm_has_joints_is_refused():
    task = get_task("pick_cube_so101")
    names = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
    action = ActionSpec(names=names, scale=(0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 0.06))
    turning = ArmTask(name="any", robot="so101", control_period=0.1, action=action, limits=task.limits)
    with pytest.raises(ConfigError, match=r"at most 5 motions of the tool, because 'so101' has 5 joints.*found 6"):
        robot_of(turning)


def test_the_jaw_is_not_faster_than_its_servo(env):
    env.reset(seed=0)
    world, fastest = env.world, 0.0
    for width in (0.0, 0.06):
        world.command_gripper(width)
        for _ in range(100):
            world.advance(1)
            fastest = max(fastest, abs(world.joint_velocities[-1]))
    assert 3.0 < fastest < 4.8  # [rad/s]; without load the servo makes 4.7


def test_what_is_measured_of_the_jaw_is_the_way_between_the_pads(env):
    env.reset(seed=0)
    data, model = env.world.data, env.world.model
    hand = data.body("gripper_link")
    for value in (1.0, 0.3, -0.4, 1.0):
        for _ in range(6):
            env.step(np.array([0.0, 0.0, 0.0, value], np.float32))
        turn = hand.xmat.reshape(3, 3)
        places = {name: turn.T @ (data.geom(name).xpos - hand.xpos) for name in ("fixed_jaw_pad", "jaw_pad")}
        axis = turn.T @ data.geom("jaw_pad").xmat.reshape(3, 3)[:, 1]  # from the pad's face into the pad
        face = places["jaw_pad"] - axis * model.geom("jaw_pad").size[1]
        fixed = places["fixed_jaw_pad"][1] + model.geom("fixed_jaw_pad").size[1]
        assert face[1] - fixed == pytest.approx(env.world.gripper_width, abs=4e-4)
        assert env.world.gripper_width == pytest.approx(0.03 * (value + 1.0), abs=2e-3)
