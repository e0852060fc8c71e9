# SPDX-License-Identifier: Apache-2.0
"""What every description of an arm has, for rviz, ros2_control, kinematics and MuJoCo alike."""

from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel, load_robot

ARMS = ["fr3", "so101", "piper", "trossen"]
PRETENDED = "mock_components/GenericSystem"


@pytest.fixture(scope="module", params=ARMS)
def robot(request: pytest.FixtureRequest) -> RobotModel:
    return load_robot(request.param)


@pytest.fixture(scope="module")
def urdf(robot: RobotModel) -> ElementTree.Element:
    return ElementTree.fromstring(robot.urdf_xml())


@pytest.fixture(scope="module")
def model(robot: RobotModel) -> mujoco.MjModel:
    return mujoco.MjSpec.from_string(robot.urdf_xml()).compile()


def links(urdf: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {str(link.get("name")): link for link in urdf.findall("link")}


def joints(urdf: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {str(joint.get("name")): joint for joint in urdf.findall("joint")}


def end(joint: ElementTree.Element, which: str) -> str:
    element = joint.find(which)
    assert element is not None
    return str(element.get("link"))


def test_links_and_joints_are_one_tree_from_the_world(urdf: ElementTree.Element) -> None:
    """As robot_state_publisher wants it: one root, every link but it the child of one joint, no name twice."""
    names = links(urdf)
    assert len(names) == len(urdf.findall("link")) and len(joints(urdf)) == len(urdf.findall("joint"))
    above = {end(joint, "child"): end(joint, "parent") for joint in joints(urdf).values()}
    assert len(above) == len(joints(urdf))
    assert set(names) - set(above) == {"world"}
    for name in names:
        way = [name]
        while way[-1] != "world":
            way.append(above[way[-1]])
            assert len(way) <= len(names), f"{name} hangs on itself"


def test_it_is_drawn_from_primitive_shapes_whose_colours_are_known(urdf: ElementTree.Element) -> None:
    assert not list(urdf.iter("mesh"))
    known = {material.get("name") for material in urdf.findall("material")}
    used = {material.get("name") for visual in urdf.iter("visual") for material in visual.findall("material")}
    assert used <= known


def test_every_link_that_has_a_weight_is_solid(urdf: ElementTree.Element) -> None:
    weighing = {name for name, link in links(urdf).items() if link.find("inertial") is not None}
    moved = {end(joint, "child") for joint in joints(urdf).values() if joint.get("type") != "fixed"}
    assert moved <= weighing
    for name in weighing:
        assert links(urdf)[name].find("collision") is not None, name
        assert links(urdf)[name].find("visual") is not None, name


def test_weights_are_physical(model: mujoco.MjModel, robot: RobotModel) -> None:
    for body in range(model.nbody):
        if model.body_mass[body] > 0.0:
            small, middle, large = sorted(model.body_inertia[body])
            assert small > 0.0 and small + middle >= large, model.body(body).name


def test_solid_parts_keep_above_the_table_at_the_named_configurations(model: mujoco.MjModel, robot: RobotModel) -> None:
    data = mujoco.MjData(model)
    for name, positions in robot.named_configurations.items():
        for joint, position in zip(robot.arm_joints, positions, strict=True):
            data.joint(joint).qpos = position
        mujoco.mj_forward(model, data)
        for geom in np.flatnonzero(model.geom_contype):
            centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
            turn = data.geom_xmat[geom].reshape(3, 3)
            lowest = (data.geom_xpos[geom] + turn @ centre)[2] - np.abs(turn[2]) @ half
            assert lowest > -1e-3, (name, model.geom(geom).name, model.body(model.geom_bodyid[geom]).name)


def test_the_tool_points_at_the_table_at_the_named_configurations_and_their_margins_are_kept(robot: RobotModel) -> None:
    kinematics = Kinematics(robot)
    for name in robot.named_configurations:
        q = np.array(robot.configuration(name))
        assert np.all(q >= kinematics.lower + 0.1) and np.all(q <= kinematics.upper - 0.1), name
        _, opening, approach = kinematics.tcp(q).rotation_matrix().T
        assert approach[2] < -0.9, name
        assert abs(opening[1]) == pytest.approx(1.0, abs=1e-3), name


def test_cameras_look_along_frames_of_the_description(robot: RobotModel, urdf: ElementTree.Element) -> None:
    assert robot.cameras
    for camera in robot.cameras.values():
        assert camera.parent in links(urdf)
        assert camera.optical_frame() == Pose.identity()


def test_ros2_control_has_every_joint_within_its_limits(robot: RobotModel, urdf: ElementTree.Element) -> None:
    (system,) = urdf.findall("ros2_control")
    plugin = system.find("hardware/plugin")
    assert plugin is not None and plugin.text == PRETENDED
    controlled = {str(joint.get("name")): joint for joint in system.findall("joint")}
    assert tuple(controlled) == robot.joints
    for name, joint in controlled.items():
        described = joints(urdf)[name]
        follows = described.find("mimic") is not None
        assert [each.get("name") for each in joint.findall("command_interface")] == ([] if follows else ["position"])
        measured = [each.get("name") for each in joint.findall("state_interface")]
        assert measured[:2] == ["position", "velocity"]
        if not follows:
            limit, initial = described.find("limit"), joint.find("state_interface/param[@name='initial_value']")
            assert limit is not None and initial is not None and initial.text is not None
            assert float(limit.get("lower", "")) <= float(initial.text) <= float(limit.get("upper", ""))
    for name, position in zip(robot.arm_joints, robot.configuration("ready"), strict=True):
        initial = controlled[name].find("state_interface/param[@name='initial_value']")
        assert initial is not None and float(initial.text or "") == pytest.approx(position, abs=1e-9)
