# SPDX-License-Identifier: Apache-2.0
"""Each package.xml says what its package needs, in names that rosdep knows, and the package needs nothing else."""

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(folder.name for folder in (ROOT / "src").glob("serl_*"))

# Module → key in rosdep's python.yaml, as of August 2026.
ROSDEP_KEYS = {
    "OpenGL": "python3-opengl",
    "PIL": "python3-pil",
    "aiohttp": "python3-aiohttp",
    "cv2": "python3-opencv",
    "google": "python3-protobuf",
    "gymnasium": "python3-gymnasium-pip",
    "hypothesis": "python3-hypothesis",
    "imageio": "python3-imageio",
    "matplotlib": "python3-matplotlib",
    "msgpack": "python3-msgpack",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "pydantic": "python3-pydantic",
    "pytest": "python3-pytest",
    "pytest_timeout": "python3-pytest-timeout",
    "rich": "python3-rich",
    "scipy": "python3-scipy",
    "typer": "python3-typer",
    "yaml": "python3-yaml",
}
# Released in Jazzy and in Kilted.
ROS_PACKAGES = {
    "action_msgs", "ament_cmake", "ament_cmake_python", "ament_index_python", "builtin_interfaces", "control_msgs",
    "controller_manager", "controller_manager_msgs", "cv_bridge", "diagnostic_msgs", "geometry_msgs",
    "rcl_interfaces", "rclpy", "realsense2_camera", "robot_state_publisher", "ros2launch",
    "rosgraph_msgs", "rosidl_default_generators",
    "rosidl_default_runtime", "rviz2", "sensor_msgs", "std_msgs",
    "std_srvs", "tf2_msgs", "trajectory_msgs", "unique_identifier_msgs", "usb_cam", "visualization_msgs", "xacro",
}  # fmt: skip
# Module → package of pip, where rosdep has no key: <pip_depend> in <export>, which ./serl installs.
PIP_PACKAGES = {
    "flax": "flax",
    "glfw": "glfw",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "jax": "jax",
    "optax": "optax",
    "orbax": "flax",  # which brings it
    "safetensors": "safetensors",
    "tensorboardX": "tensorboardx",
    "tensorstore": "flax",
}
# Of one kind of camera or arm, of game pads, of servos, of some formats of recordings: said so where they are missing.
OPTIONAL = {
    "agentlace",
    "av",
    "can",
    "cryptography",
    "draccus",
    "franky",
    "google_crc32c",
    "lerobot",
    "lz4",
    "mcap",
    "ompl",
    "piper_sdk",
    "pyarrow",
    "pyrealsense2",
    "ray",
    "rerun",
    "rosbags",
    "ruckig",
    "scservo_sdk",
    "sdl2",
    "torch",
    "torchvision",
    "trossen_arm",
    "wandb",
    "zenoh",
    "zmq",
    "zstandard",
}


def imported(folder: Path) -> set[str]:
    """Return the modules that the files of a folder import, also inside of functions and by literal name."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    found |= {alias.name for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
                case ast.Call(
                    func=ast.Attribute(attr="import_module" | "importorskip"), args=[ast.Constant(value), *_]
                ):
                    found.add(value)
    return found


def modules(folder: Path) -> set[str]:
    """Return the top-level modules that the files of a folder import from elsewhere."""
    own = {folder.name, *(file.stem for file in folder.rglob("*.py"))}
    return {name.partition(".")[0] for name in imported(folder)} - own - set(sys.stdlib_module_names) - OPTIONAL


def below(package: str) -> set[str]:
    """Return the packages of the workspace that a package needs, whatever they need themselves, and the package."""
    found, new = set(), {package}
    while new:
        found |= new
        new = {other for one in new for other in declared(one, "depend", "exec_depend") if other in PACKAGES} - found
    return found


def needed(names: set[str]) -> set[str]:
    return {ROSDEP_KEYS.get(name, PIP_PACKAGES.get(name, name)) for name in names}


def manifest(package: str) -> ET.Element:
    return ET.parse(ROOT / "src" / package / "package.xml").getroot()


def declared(package: str, *tags: str) -> set[str]:
    return {element.text or "" for tag in tags for element in manifest(package).iter(tag)}


def launched() -> set[str]:
    """Return the packages whose executables the launch files start."""
    files = (ROOT / "launch").glob("*.xml")
    return {node.get("pkg", "") for file in files for node in ET.parse(file).iter("node")}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_is_declared_and_nothing_else(package):
    expected = needed(modules(ROOT / "src" / package / package))
    if package == "serl_bringup":
        expected |= needed(launched()) | {"ros2launch"}
    if "serl_config.resources" in imported(ROOT / "src" / package / package) and package not in below("serl_bringup"):
        expected |= {"serl_bringup"}  # whose files it finds; what the launch files start cannot say so in return
    if package == "serl_cli":
        expected |= {"imageio-ffmpeg"}  # imageio's plug-in for films
    if package == "serl_interfaces":
        expected |= declared(package, "depend") | {"rosidl_default_runtime"}
    assert declared(package, "depend", "exec_depend", "pip_depend") == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_what_its_tests_import_is_declared_too(package):
    tests = ROOT / "src" / package / "test"
    expected = needed(modules(tests)) - {package} - declared(package, "exec_depend", "pip_depend")
    if tests.is_dir():
        expected |= {"python3-pytest", "python3-pytest-timeout"}  # which pyproject.toml sets
    assert declared(package, "test_depend") == expected - set(PIP_PACKAGES.values())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_dependency_is_one_that_rosdep_or_the_lock_knows(package):
    names = declared(package, "buildtool_depend", "build_depend", "depend", "exec_depend", "test_depend")
    assert names <= {*PACKAGES, *ROS_PACKAGES, *ROSDEP_KEYS.values()}
    for lock in ("jazzy", "kilted", "native"):
        text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
        assert declared(package, "pip_depend") <= set(re.findall(r"^([\w-]+)==", text, re.MULTILINE))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_who_made_it_and_can_be_released_alone(package):
    root = manifest(package)
    assert root.findtext("name") == package
    assert {url.get("type") for url in root.iter("url")} >= {"repository", "bugtracker"}
    for tag in ("version", "description", "maintainer", "license"):
        assert root.findtext(tag)
    folder = ROOT / "src" / package
    assert not [path for path in folder.rglob("*") if path.is_symlink()], "what lies elsewhere is not released"
    for name in ("CMakeLists.txt", "setup.py"):
        assert not (folder / name).exists() or ".." not in (folder / name).read_text(encoding="utf-8")
    if (folder / "setup.py").exists():
        setup = (folder / "setup.py").read_text(encoding="utf-8")
        assert f'version="{root.findtext("version")}"' in setup
        assert 'extras_require={"test": ["pytest"]}' in setup, "without it `colcon test` runs nothing"


def test_the_top_level_folders_are_those_of_the_package():
    for name in ("launch", "config", "urdf"):
        assert (ROOT / name).resolve() == ROOT / "src/serl_bringup" / name


PLUGIN = "def pytest_pycollect_makemodule(path, parent):\n    return None\n"


@pytest.fixture
def sourced(tmp_path):
    """PYTHONPATH of a ROS 2 whose packages bring plug-ins of pytest with a hook that pytest no longer has so."""
    names = ["launch_testing", "launch_ros", "launch_testing_ros_pytest_entrypoint", "ament_lint", "ament_copyright"]
    packages = tmp_path / "site-packages"
    info = packages / "plugins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{name} = {name}_hooks\n" for name in names))
    for name in names:
        (packages / f"{name}_hooks.py").write_text(PLUGIN)
    return {**os.environ, "PYTHONPATH": str(packages)}


def test_plugins_of_a_sourced_ros_do_not_keep_pytest_from_starting(sourced, tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "test_it.py"]
    options = {"env": sourced, "cwd": tmp_path, "capture_output": True, "text": True, "check": False, "timeout": 60}
    broken = subprocess.run(command, **options)
    assert "PluginValidationError" in broken.stderr
    result = subprocess.run([*command, "-c", ROOT / "pyproject.toml"], **options)
    assert result.returncode == 0, result.stdout + result.stderr
