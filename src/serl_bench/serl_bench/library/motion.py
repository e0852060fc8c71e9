# SPDX-License-Identifier: Apache-2.0
"""How fast an arm's inverse kinematics is, and how surely and fast a way round obstacles is found."""

import importlib.util
import itertools
import time

import mujoco
import numpy as np
from numpy.typing import NDArray
from serl_config.optional import setup_line
from serl_launch.errors import CommandError
from serl_planning.inverse_kinematics import InverseKinematics
from serl_planning.motion_planner import MotionPlanner
from serl_planning.way import EXTRA, PlanningError
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import READY, RobotModel, load_robot
from serl_robots.model.scene import load_scene
from serl_robots.model.scene_shapes import describe

from serl_bench.benchmark import Bench, Measurement

_ROBOT = "panda"
_PERIOD = 0.01  # [s]
_GOALS, _STEPS = 40, 100
_POSES = 200
_SCENE = "table_with_posts"
_FINE = 0.005  # [rad] of the fastest joint between two configurations that are looked at again


def ik_ms(bench: Bench) -> Measurement:
    """Median time [ms] of a step on the way to poses in the robot's box; the worst of the seeds."""
    robot = load_robot(_ROBOT)
    kinematics = Kinematics(robot)
    medians, slowest = {}, {}
    for seed in bench.seeds:
        rng = np.random.default_rng(seed)
        follower = InverseKinematics(robot, kinematics, _PERIOD)
        joints = np.array(robot.configuration(READY))
        down = kinematics.tcp(joints).quaternion
        times = []
        for _ in range(_GOALS):
            goal = Pose(rng.uniform(robot.safety_box.lower, robot.safety_box.upper), down)
            for _ in range(_STEPS):
                began = time.perf_counter()
                joints = follower.step(joints, goal)
                times.append(time.perf_counter() - began)
        medians[seed], slowest[seed] = 1e3 * float(np.median(times)), 1e3 * float(np.percentile(times, 99))
    worst = max(medians.values())
    spread = f"medians of {len(medians)} seeds from {min(medians.values()):.3f}; p99 up to {max(slowest.values()):.2f}"
    return Measurement(worst, spread, {"median_ms": medians, "p99_ms": slowest})


def plan_success(bench: Bench) -> Measurement:
    """Share [%] of random reachable poses, one after the other, to which a way is found that is free; the worst seed.

    What is reachable is known by joints, of which the planner is told nothing. Ways are looked at again by MuJoCo's own
    search for contacts.

    Raises:
        CommandError: OMPL is not installed.
    """
    if importlib.util.find_spec("ompl") is None:
        raise CommandError(f"plan_success needs ompl: {setup_line(EXTRA)}")
    shares, medians = {}, {}
    for seed in bench.seeds:
        found, times = _plan_all(seed)
        shares[seed], medians[seed] = 100.0 * found / _POSES, float(np.median(times))
        bench.say(f"seed {seed}: {found} of {_POSES}, median {medians[seed]:.3f} s, longest {max(times):.2f} s")
    spread = f"medians of the times {', '.join(f'{value:.3f}' for value in medians.values())} s"
    return Measurement(min(shares.values()), spread, {"success": shares, "median_s": medians})


def _plan_all(seed: int) -> tuple[int, list[float]]:
    robot, scene = load_robot(_ROBOT), load_scene(_SCENE)
    kinematics = Kinematics(robot)
    planner = MotionPlanner(robot, kinematics, scene)
    model = describe(robot, scene).compile()
    rng = np.random.default_rng(seed)
    joints = np.array(robot.configuration(READY))
    low, high = kinematics.lower + 0.1, kinematics.upper - 0.1
    found = 0
    times: list[float] = []
    while len(times) < _POSES:
        goal = rng.uniform(low, high)
        tool = kinematics.tcp(goal)
        if tool.position[2] < 0.02 or not planner.is_free(goal):
            continue
        began = time.perf_counter()
        try:
            way = planner.plan(joints, tool, seed=seed)
        except PlanningError:
            times.append(time.perf_counter() - began)
            continue
        times.append(time.perf_counter() - began)
        end = kinematics.tcp(way[-1])
        there = end.distance(tool) < 1e-3 and end.angle(tool) < 5e-3
        found += there and not _touches(model, robot, way)
        joints = way[-1]
    return found, times


def _touches(model: mujoco.MjModel, robot: RobotModel, way: NDArray[np.float64]) -> bool:
    """Whether the arm touches the scene, or a link one that is not beside it, on a way (p, n) [rad]."""
    data = mujoco.MjData(model)
    qpos = [int(model.joint(name).qposadr[0]) for name in robot.arm_joints]
    for name in robot.gripper.joints:
        data.qpos[model.joint(name).qposadr] = robot.gripper.position(robot.gripper.max_width)
    for start, end in itertools.pairwise(way):
        count = 1 + int(np.abs(end - start).max() / _FINE)
        for share in np.linspace(0.0, 1.0, count):
            data.qpos[qpos] = start + share * (end - start)
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_collision(model, data)
            if any(_counts(model, contact) for contact in data.contact):
                return True
    return False


def _counts(model: mujoco.MjModel, contact: mujoco.MjContact) -> bool:
    """Whether a contact is one with the scene, of a link beyond the shoulder; links side by side always touch."""
    bodies = [int(model.geom_bodyid[geom]) for geom in contact.geom]
    depth = [_depth(model, body) for body in bodies]
    return contact.dist < 0.0 and abs(depth[0] - depth[1]) > 1


def _depth(model: mujoco.MjModel, body: int) -> int:
    """Number of hinges between a body and the world."""
    depth = 0
    while body:
        depth += int(any(model.jnt_type[model.body_jntadr[body] + i] == 3 for i in range(model.body_jntnum[body])))
        body = int(model.body_parentid[body])
    return depth
