# SPDX-License-Identifier: Apache-2.0
"""The URDF against numbers that do not come from it."""

import mujoco
import numpy as np
import pytest
from serl_robots.model.robot import load_robot

READY = (0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4)


@pytest.fixture(scope="module")
def panda():
    model = mujoco.MjSpec.from_string(load_robot("panda").urdf_xml()).compile()
    return model, mujoco.MjData(model)


def place(panda, positions):
    model, data = panda
    data.qpos[:7] = positions
    mujoco.mj_forward(model, data)
    return data


@pytest.mark.parametrize(
    ("positions", "frame", "expected"),
    [
        (READY, "panda_link8", (0.3069, 0.0, 0.5903)),
        (READY, "panda_hand_tcp", (0.3069, 0.0, 0.4869)),
        (np.zeros(7), "panda_hand_tcp", (0.088, 0.0, 0.8226)),
    ],
)
def test_the_tool_is_where_the_data_sheet_says(panda, positions, frame, expected):
    np.testing.assert_allclose(place(panda, positions).body(frame).xpos, expected, atol=5e-5)


def test_the_ready_pose_points_down(panda):
    np.testing.assert_allclose(np.abs(place(panda, READY).body("panda_hand_tcp").xquat), [0, 1, 0, 0], atol=1e-9)


def test_weight_and_gravity_torques_are_those_of_the_real_arm(panda):
    model, _ = panda
    assert model.body_mass.sum() == pytest.approx(17.6, abs=0.05)
    torques = place(panda, READY).qfrc_bias[:7]
    np.testing.assert_allclose(torques, [0.0, -4.5, -0.6, 22.8, 0.6, 2.4, 0.0], atol=0.1)


def test_inertias_are_physical(panda):
    model, _ = panda
    for inertia in model.body_inertia[model.body_mass > 0]:
        small, middle, large = sorted(inertia)
        assert small > 0
        assert small + middle >= large


def test_the_fingers_move_together(panda):
    model, _ = panda
    assert model.neq == 1
    assert model.eq_type[0] == mujoco.mjtEq.mjEQ_JOINT
