# SPDX-License-Identifier: Apache-2.0
import math
import re
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

# Distances between the axes, as the published drawings have them [m].
SHOULDER = (0.02, 0.1035)  # before the base's axis, and above the table
UPPER = 0.264
FORE = (0.245, 0.06)  # along the fore arm, and above its elbow's axis
WRIST = 0.06775  # from the pitch to the yaw axis; the arm's last axis meets the latter
TOOL = 0.02895 + 0.1487  # from there to between the pads
TIP = 0.156 - 0.1487  # on to the tips


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_robot("trossen"))


def turned(axis: int, angle: float) -> np.ndarray:
    """Rotation matrix about the x, y or z axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[j, i], matrix[i, j] = math.sin(angle), -math.sin(angle)
    return matrix


def tool(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position, and the directions of approach and of the opening as columns: an arm in a plane, and a wrist."""
    base, shoulder, elbow, pitch, yaw, roll = q
    up, fore, hand = math.pi - shoulder, elbow - shoulder, elbow + pitch - shoulder  # elevations above the horizontal
    radius = SHOULDER[0] + UPPER * math.cos(up) + FORE[0] * math.cos(fore) - FORE[1] * math.sin(fore)
    height = SHOULDER[1] + UPPER * math.sin(up) + FORE[0] * math.sin(fore) + FORE[1] * math.cos(fore)
    radius, height = radius + WRIST * math.cos(hand), height + WRIST * math.sin(hand)
    turn = turned(2, base) @ turned(1, -hand) @ turned(2, -yaw) @ turned(0, roll)
    return turned(2, base) @ (radius, 0.0, height) + TOOL * turn[:, 0], turn[:, :2]


@settings(max_examples=100, deadline=None)
@given(share=st.tuples(*[st.floats(0.0, 1.0)] * 6))
def test_the_tool_is_where_trigonometry_puts_it(kinematics: Kinematics, share: tuple[float, ...]) -> None:
    q = kinematics.lower + np.array(share) * (kinematics.upper - kinematics.lower)
    position, directions = tool(q)
    tcp = kinematics.tcp(q)
    assert np.allclose(tcp.position, position, rtol=0.0, atol=1e-9)
    assert np.allclose(tcp.rotation_matrix()[:, [2, 1]], directions, rtol=0.0, atol=1e-9)


def test_limits_are_those_of_the_documentation(kinematics: Kinematics) -> None:
    assert np.rad2deg(kinematics.lower) == pytest.approx([-175, 0, 0, -90, -90, -180], abs=0.01)
    assert np.rad2deg(kinematics.upper) == pytest.approx([175, 180, 135, 90, 90, 180], abs=0.01)
    assert load_robot("trossen").gripper.max_width == 2 * 0.044


def published() -> str:
    """The model of the package trossen-arm-sim, without the meshes; skips where it is not installed."""
    spec = find_spec("trossen_arm_sim")
    if spec is None or spec.origin is None:
        pytest.skip("needs pip install --no-deps trossen-arm-sim")
    text = (Path(spec.origin).parent / "assets" / "wxai_follower.xml").read_text(encoding="utf-8")
    return re.sub(r'<geom [^>]*mesh="[^>]*/>|<mesh [^>]*/>', "", text)


def test_frames_weights_and_limits_are_those_of_the_published_model() -> None:
    robot = load_robot("trossen")
    theirs, ours = (mujoco.MjSpec.from_string(text).compile() for text in (published(), robot.urdf_xml()))
    their_data, our_data = mujoco.MjData(theirs), mujoco.MjData(ours)
    theirs.body_gravcomp[:] = 0.0
    rng = np.random.default_rng(0)
    for _ in range(100):
        for joint in robot.joints:
            assert theirs.joint(joint).range == pytest.approx(ours.joint(joint).range, abs=1e-5)
            their_data.joint(joint).qpos = our_data.joint(joint).qpos = rng.uniform(*ours.joint(joint).range)
        mujoco.mj_forward(theirs, their_data)
        mujoco.mj_forward(ours, our_data)
        assert np.allclose(their_data.site("ee_site").xpos, our_data.body("ee_gripper_link").xpos, atol=1e-5)
        assert np.allclose(their_data.site("ee_site").xmat, our_data.body("ee_gripper_link").xmat, atol=1e-5)
        assert np.allclose(their_data.site("camera_color_frame").xpos, our_data.body("wrist_camera").xpos, atol=1e-5)
        for joint in robot.arm_joints:  # weights [Nm]
            assert their_data.joint(joint).qfrc_bias == pytest.approx(our_data.joint(joint).qfrc_bias, abs=0.02)
    tip = our_data.body("ee_gripper_link").xpos - our_data.body("tcp").xpos
    assert np.linalg.norm(tip) == pytest.approx(TIP)
