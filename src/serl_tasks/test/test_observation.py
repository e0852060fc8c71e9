# SPDX-License-Identifier: Apache-2.0
"""State vectors of terms with a memory of the episode, coarse and fine, with bounds."""

import copy
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from serl_robots.model.pose import Pose, quaternion_exp
from serl_tasks.observation import StateTerm
from serl_tasks.state_terms import ARM_TERMS, JOINT_TERMS, LAST_ACTION, last_action_term, object_terms

from serl_tasks import ArmSample, get_task

PICK = get_task("pick_cube")
DOWN = (1.0, 0.0, 0.0, 0.0)
ARM = ArmSample(Pose((0.5, 0.1, 0.2), DOWN), np.zeros(6), 0.08, 0.07, Pose((0.5, 0.1, 0.2), DOWN))
WORLD = {"tcp": ARM.tcp, "cube": Pose((0.45, 0.0, 0.02))}


def term(name, size, scale=1.0, **more):
    return StateTerm(name=name, shift=(0.0,) * size, scale=(scale,) * size, **more)


def task_with(*terms):
    return dataclasses.replace(PICK, state=terms)


def test_time_is_the_share_of_the_horizon_that_is_over():
    observer = task_with(term("time", 1)).make_observer()
    observer.begin(ARM, 0)
    times = []
    for _ in range(PICK.horizon + 3):
        times.append(float(observer.state(ARM, WORLD)[0]))
        observer.advance(np.zeros(4, np.float32))
    np.testing.assert_allclose(times[:3], [0.0, 1 / PICK.horizon, 2 / PICK.horizon], atol=1e-6)
    assert times[-3:] == [1.0, 1.0, 1.0]
    assert task_with(term("time", 1)).meaning["state"][0]["horizon"] == PICK.horizon


def test_the_same_term_may_be_coarse_and_fine():
    task = task_with(term("cube_from_tcp", 3, 0.1), term("cube_from_tcp", 3, 0.01, clip=2.0))
    observer = task.make_observer()
    observer.begin(ARM, 0)
    state = observer.state(ARM, WORLD)
    np.testing.assert_allclose(state, [-0.5, -1.0, -1.8, -2.0, -2.0, -2.0], atol=1e-6)
    assert [value.get("clip") for value in task.meaning["state"]] == [None] * 3 + [2.0] * 3


def test_poses_from_the_start_of_the_episode():
    task = task_with(term("tcp_position_from_start", 3), term("tcp_rotation_from_start", 3))
    observer = task.make_observer()
    observer.begin(ARM, 0)
    np.testing.assert_array_equal(observer.state(ARM, WORLD), np.zeros(6))
    turned = Pose((0.0, 0.0, 0.0), quaternion_exp((0.1, -0.2, 0.3))).compose(Pose((0.0, 0.0, 0.0), DOWN))
    later = dataclasses.replace(ARM, tcp=Pose((0.51, 0.12, 0.17), turned.quaternion))
    np.testing.assert_allclose(observer.state(later, WORLD), [0.01, 0.02, -0.03, 0.1, -0.2, 0.3], atol=1e-6)


def test_the_last_action_is_that_which_was_executed():
    observer = task_with(term("last_action", 4)).make_observer()
    observer.begin(ARM, 0)
    np.testing.assert_array_equal(observer.state(ARM, WORLD), np.zeros(4))
    executed = np.array([0.5, -1.0, 0.25, 1.0], np.float32)
    observer.advance(executed)
    np.testing.assert_array_equal(observer.state(ARM, WORLD), executed)
    observer.begin(ARM, 1)
    np.testing.assert_array_equal(observer.state(ARM, WORLD), np.zeros(4))


def test_a_copy_of_a_task_observes_the_same():
    task = task_with(term("last_action", 4), term("cube_from_tcp", 3, 0.01, clip=2.0))
    task.make_observer()
    found = []
    for each in (task, copy.deepcopy(task)):
        observer = each.make_observer()
        observer.begin(ARM, 0)
        found.append(observer.state(ARM, WORLD))
    np.testing.assert_array_equal(*found)


def test_the_documented_terms_are_those_that_there_are():
    page = (Path(__file__).parents[3] / "docs/add_a_task.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    terms = {**ARM_TERMS, LAST_ACTION: last_action_term(4), **object_terms("cube")}
    sizes = {name: str(term.size) for name, term in terms.items()}
    sizes |= dict.fromkeys(JOINT_TERMS, "one for each joint") | {LAST_ACTION: "one for each component"}
    expected = [(name, sizes[name], term.unit, term.frame, term.meaning) for name, term in terms.items()]
    assert documented == expected


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("tcp_force", 3, "need the measured wrench"),
        ("joint_velocities", 7, "need the joints"),
        ("tcp_tracking_error", 3, "needs the commanded pose"),
    ],
)
def test_a_term_of_what_nobody_measures_says_what_is_missing(name, size, said):
    observer = task_with(term(name, size)).make_observer()
    nothing = dataclasses.replace(ARM, commanded=None)
    observer.begin(nothing, 0)
    observer.advance(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=said):
        observer.state(nothing, WORLD)
