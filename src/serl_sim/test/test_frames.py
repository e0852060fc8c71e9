# SPDX-License-Identifier: Apache-2.0
"""Tasks in the frame of the tool, and with any of its six degrees of freedom, in the simulated world."""

import math
from dataclasses import replace

import numpy as np
import pytest
from led_episode import lead
from serl_robots.control.action import ActionSpec
from serl_robots.model.pose import Pose, quaternion_exp
from serl_sim.envs import TaskEnv
from unjudged_task import unjudged

from serl_tasks import get_task

PICK = get_task("pick_cube")


def turned_task(angle):
    """A task in which arm, cube and box of the limits are turned about the vertical of the base."""
    turn = Pose((0.0, 0.0, 0.0), quaternion_exp((0.0, 0.0, angle)))
    down = turn.compose(Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)))
    x, y, _ = turn.transform((0.55, 0.03, 0.0)).tolist()
    limits = replace(
        PICK.limits,
        reference_orientation=tuple(down.quaternion.tolist()),
        workspace_min=(0.0, -0.6, 0.015),
        workspace_max=(0.8, 0.6, 0.5),
    )
    cube = replace(PICK.objects["cube"], lower=(x, y), upper=(x, y), yaw_deg=0.0)
    start = replace(PICK.start, tcp_position=tuple(turn.transform((0.5, 0.0, 0.2)).tolist()))
    names = ("tcp_position", "tcp_linear_velocity", "cube_from_tcp")
    state = tuple(replace(PICK.state[0], name=name, shift=(0.0,) * 3, scale=(0.1,) * 3) for name in names)
    # small steps: the pull of the simulated arm is limited along each axis of the base
    action = replace(PICK.action, scale=(0.012, 0.012, 0.012, 0.08))
    return replace(PICK, action=action, frame="tool", limits=limits, objects={"cube": cube}, start=start, state=state)


@pytest.mark.parametrize("angle", [0.4, -0.7])
def test_a_scene_that_is_turned_about_the_vertical_is_the_same_task(angle):
    """The arm turns with it by its first joint, so that its whole dynamics are the same."""
    here, there = TaskEnv(turned_task(0.0)), TaskEnv(turned_task(angle))
    rng = np.random.default_rng(0)
    states = [(here.reset(seed=1)[0]["state"], there.reset(seed=1)[0]["state"])]
    for _ in range(12):
        action = rng.uniform(-1.0, 1.0, 4).astype(np.float32)
        first, second = here.step(action), there.step(action)
        states.append((first[0]["state"], second[0]["state"]))
        np.testing.assert_allclose(first[4]["executed_action"], second[4]["executed_action"], atol=1e-3)
    ours, theirs = np.swapaxes(states, 0, 1)
    assert np.ptp(ours[:, :3], axis=0).min() > 0.1, "it has moved by more than a centimetre"
    # The elbow is free to rest elsewhere, so that the speeds differ a little: 1 mm, 3 mm/s.
    np.testing.assert_allclose(theirs[:, [0, 1, 2, 6, 7, 8]], ours[:, [0, 1, 2, 6, 7, 8]], atol=0.01)
    np.testing.assert_allclose(theirs[:, 3:6], ours[:, 3:6], atol=0.03)


def test_the_expert_solves_the_task_in_the_frame_of_the_tool():
    env = TaskEnv(replace(PICK, frame="tool"))
    for seed in range(5):
        assert lead(env, seed)[0]


def with_action(*names, frame="base"):
    scales = {"gripper": 0.08} | {f"d{axis}": 0.01 for axis in "xyz"} | {f"r{axis}": 0.05 for axis in "xyz"}
    spec = ActionSpec(names=names, scale=tuple(scales.get(name, 0.02) for name in names))
    limits = replace(PICK.limits, orientation_cone=1.5, max_rotation_step=0.2, max_angular_acceleration=30.0)
    return unjudged(action=spec, limits=limits, frame=frame)


@pytest.mark.parametrize("frame", ["base", "tool"])
@pytest.mark.parametrize(
    "names", [("dx", "dy", "dz", "rz"), ("dx", "dz"), ("rx", "gripper"), ("dx", "dy", "dz", "rx", "ry", "rz")]
)
def test_any_of_the_six_degrees_of_freedom_moves_the_simulated_tool(frame, names):
    env = TaskEnv(with_action(*names, frame=frame))
    env.reset(seed=0)
    start = env.world.arm_sample().tcp
    value = 0.6
    for _ in range(5):
        *_, info = env.step(np.full(len(names), value, np.float32))
        np.testing.assert_array_equal(info["executed_action"], np.full(len(names), value, np.float32))
    for _ in range(10):
        env.step(env.task.action.rest(0.04))
    tool = env.world.arm_sample().tcp
    way, turn = start.position_to(tool), start.rotation_vector_to(tool)
    if frame == "tool":
        back = start.inverse()
        turn = back.rotate(turn)
        way = back.rotate(way)
    expected_turn = np.array([5 * value * 0.05 * (axis in names) for axis in ("rx", "ry", "rz")])
    np.testing.assert_allclose(turn, expected_turn, atol=0.02)
    if not expected_turn.any() or frame == "base":  # else the deltas of the tool turn with it
        np.testing.assert_allclose(way, [5 * value * 0.01 * (axis in names) for axis in ("dx", "dy", "dz")], atol=3e-3)


def test_joint_actions_turn_the_joints_and_keep_the_box_of_the_tool():
    env = TaskEnv(with_action("j1", "j4", "gripper"))
    env.reset(seed=0)
    before = env.world.arm_positions
    for _ in range(3):
        *_, info = env.step(np.array([1.0, 0.0, 1.0], np.float32))
        np.testing.assert_array_equal(info["executed_action"], np.array([1.0, 0.0, 1.0], np.float32))
    for _ in range(5):
        env.step(np.array([0.0, 0.0, 1.0], np.float32))
    np.testing.assert_allclose(env.world.arm_positions - before, [0.06, 0, 0, 0, 0, 0, 0], atol=5e-3)
    limits, named = env.task.limits, set()
    for _ in range(60):
        *_, info = env.step(np.array([1.0, 0.0, 1.0], np.float32))
        named |= set(info["limits"])
    assert "workspace" in named
    assert limits.workspace_max[1] - 0.02 < env.world.arm_sample().tcp.position[1] < limits.workspace_max[1] + 0.005
    assert math.isclose(info["executed_action"][0], 0.0, abs_tol=0.05)
