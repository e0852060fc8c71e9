# SPDX-License-Identifier: Apache-2.0
"""`cameras.launch.xml` and the parameter files that it gives to the nodes."""

import re
from pathlib import Path

import pytest
import yaml
from serl_launch.language.launch_plan import LaunchPlan, make_plan

ROOT = Path(__file__).resolve().parents[4]
LAUNCH = ROOT / "launch/cameras.launch.xml"
PROGRAMS = {
    "serl_cameras": "serl_cameras/camera",
    "realsense2_camera": "realsense2_camera/realsense2_camera_node",
    "usb_cam": "usb_cam/usb_cam_node_exe",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for package in ("serl_bringup", *PROGRAMS):
        marker = tmp_path / "share/ament_index/resource_index/packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    for name in PROGRAMS.values():
        executable = tmp_path / "lib" / name
        executable.parent.mkdir(parents=True)
        executable.touch(mode=0o755)
    (tmp_path / "share/serl_bringup").mkdir()
    (tmp_path / "share/serl_bringup/config").symlink_to(ROOT / "config")
    return {"AMENT_PREFIX_PATH": str(tmp_path)}


def plan(environment: dict[str, str], **arguments: str) -> LaunchPlan:
    return make_plan(LAUNCH, arguments, environment, Path("/log"))


def test_both_cameras_start_with_their_parameters(environment: dict[str, str]) -> None:
    processes = plan(environment, namespace="left").processes
    assert [process.node for process in processes] == ["/left/front", "/left/wrist"]
    assert all(process.respawn for process in processes)
    for process, name in zip(processes, ("front", "wrist"), strict=True):
        files = [word for word in process.command if word.endswith(".yaml")]
        assert [Path(file).name for file in files] == [f"{name}.yaml"]


def test_a_camera_can_be_left_out(environment: dict[str, str]) -> None:
    assert [process.node for process in plan(environment, wrist="").processes] == ["/front"]


def test_nodes_of_a_native_ros_2_take_the_place_of_ours(environment: dict[str, str], tmp_path: Path) -> None:
    drivers = {"front_driver": "usb_cam", "wrist_driver": "realsense2_camera"}
    front, wrist = plan(environment, namespace="left", **drivers).processes
    assert (front.node, wrist.node) == ("/left/front", "/left/wrist")
    for process, package in ((front, "usb_cam"), (wrist, "realsense2_camera")):
        assert process.command[0].endswith(PROGRAMS[package])
        assert [Path(word).name for word in process.command if word.endswith(f"{package}.yaml")]
    assert "image_raw:=front/color/image_raw" in front.command
    assert "frame_id: left/front_color_optical_frame" in "".join(file.text for file in front.files)
    written = "".join(file.text for file in wrist.files)
    assert "camera_name: wrist" in written and "tf_prefix: left/" in written
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**: {ros__parameters: {serial_no: '012345678901'}}")
    one = plan(environment, front="", wrist_driver="realsense2_camera", wrist=str(mine)).processes
    assert [process.node for process in one] == ["/wrist"]
    assert str(mine) in one[0].command


@pytest.mark.parametrize("name", ["front", "wrist"])
def test_the_node_knows_every_parameter_that_it_is_given(name: str) -> None:
    values = yaml.safe_load((ROOT / f"config/cameras/{name}.yaml").read_text())["/**"]["ros__parameters"]
    source = (ROOT / "src/serl_cameras/serl_cameras/camera_node.py").read_text()
    assert values.keys() <= set(re.findall(r'declare\(\s*self,\s*"(\w+)"', source))


def test_the_program_is_installed_by_its_package() -> None:
    assert '"camera = serl_ros.console:serl_cameras.camera_node"' in (ROOT / "src/serl_cameras/setup.py").read_text()
