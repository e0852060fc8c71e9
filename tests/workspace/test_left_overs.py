# SPDX-License-Identifier: Apache-2.0
"""What a person's shell may have left over from elsewhere does no harm to ./serl, or is named in one line."""

import subprocess
from pathlib import Path

import pytest

NOTHING = ""


def variables(workspace, *names, **environment):
    """Return what variables are in the environment of the command line, and what was said before."""
    script = 'for name; do printf "%s\\n" "${!name-unset}"; done'
    result = workspace.serl("shell", "bash", "-c", script, "-", *names, **environment)
    assert result.returncode == 0, result.stderr
    return dict(zip(names, result.stdout.splitlines(), strict=True)), result.stderr


def ros_of(folder: Path, distribution: str, python: str) -> dict[str, str]:
    """What sourcing another ROS leaves in the environment."""
    packages = folder / distribution / f"lib/python{python}/site-packages"
    libraries = folder / distribution / "lib"
    for file in (packages / "rclpy/__init__.py", libraries / "librcl.so"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    marker = folder / distribution / "share/ament_index/resource_index/packages/rclpy"
    marker.parent.mkdir(parents=True)
    marker.touch()
    return {
        "ROS_DISTRO": distribution,
        "AMENT_PREFIX_PATH": str(folder / distribution),
        "CMAKE_PREFIX_PATH": str(folder / distribution),
        "COLCON_PREFIX_PATH": str(folder / distribution),
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": f"{libraries}:/usr/local/lib/mine",
    }


def test_an_older_ros_is_refused_in_one_line_that_names_the_way_out(ready, tmp_path):
    humble = ros_of(tmp_path, "humble", "3.10")
    result = ready.serl("train", **humble)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "ROS 2 humble is sourced" in line and "SERL_ROS_DISTRO=jazzy" in line
    found, said = variables(ready, *humble, **humble, SERL_ROS_DISTRO="jazzy")
    assert said == NOTHING
    assert "humble" not in "".join(found.values())
    assert found["LD_LIBRARY_PATH"].endswith(":/usr/local/lib/mine"), "what is not of a ROS stays"


def test_what_a_shell_has_left_over_refuses_no_stop(ready, native, tmp_path):
    assert ready.serl("setup", **native).returncode == 0
    humble = ros_of(tmp_path, "humble", "3.10")
    for environment in (
        humble,
        {"SERL_ROS_DISTRO": "humble"},
        native | {"SERL_ROS_DISTRO": "kilted"},
        native | {"PYTHONPATH": f"{humble['PYTHONPATH']}:{native['PYTHONPATH']}"},
    ):
        assert ready.serl("nodes", **environment).returncode == 1
        result = ready.serl("estop", **environment)
        assert (result.stdout, result.stderr) == ("[estop]\n", NOTHING), environment


@pytest.mark.parametrize(
    "path",
    ["/opt/ros/humble/lib/python3.10/site-packages", "/opt/ros/noetic/lib/python3/dist-packages"],
)
def test_another_pythons_packages_are_not_for_the_wheels(ready, path):
    ready.write("ros/rclpy/__init__.py", "")
    found, said = variables(ready, "PYTHONPATH", PYTHONPATH=f"{path}:/home/me/scripts:{ready.root}/ros")
    assert (found["PYTHONPATH"], said) == ("/home/me/scripts", NOTHING)


def test_what_is_left_of_a_removed_ros_does_no_harm(ready, tmp_path):
    gone = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/gone", "CMAKE_PREFIX_PATH": "/opt/ros/gone"}
    found, said = variables(ready, *gone, **gone, ROS_VERSION="1", ROS_MASTER_URI="http://localhost:11311")
    assert (found["AMENT_PREFIX_PATH"], said) == (f"{ready.root}/.venv", NOTHING)


def test_another_rclpy_in_front_of_the_native_one_is_refused(workspace, native, tmp_path):
    foreign = ros_of(tmp_path, "humble", "3.10")["PYTHONPATH"]
    result = workspace.serl("train", **native | {"PYTHONPATH": f"{foreign}:{native['PYTHONPATH']}"})
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"PYTHONPATH begins with the rclpy of {foreign}" in line
    assert line.endswith(f"Unset PYTHONPATH and source {native['AMENT_PREFIX_PATH']}/setup.bash again.")


def test_a_transport_that_is_not_installed_is_left_aside(ready, native, tmp_path):
    found, said = variables(ready, "RMW_IMPLEMENTATION", RMW_IMPLEMENTATION="rmw_cyclonedds_cpp")
    assert found["RMW_IMPLEMENTATION"] == "unset"
    assert said.startswith("serl: note: RMW_IMPLEMENTATION=rmw_cyclonedds_cpp is not installed here")
    marker = Path(native["AMENT_PREFIX_PATH"]) / "share/ament_index/resource_index/packages/rmw_cyclonedds_cpp"
    marker.touch()
    assert ready.serl("setup", **native).returncode == 0
    found, said = variables(ready, "RMW_IMPLEMENTATION", RMW_IMPLEMENTATION="rmw_cyclonedds_cpp", **native)
    assert (found["RMW_IMPLEMENTATION"], said) == ("rmw_cyclonedds_cpp", NOTHING)


@pytest.mark.parametrize(
    "name", ["RCUTILS_COLORIZED_OUTPUT", "RCUTILS_LOGGING_USE_STDOUT", "RCUTILS_LOGGING_BUFFERED_STREAM"]
)
def test_values_that_the_logging_refuses_are_left_aside(ready, name):
    found, said = variables(ready, name, **{name: "yes"})
    assert (found[name], said) == ("unset", f"serl: note: {name}=yes is left aside: expected 0 or 1.\n")
    assert variables(ready, name, **{name: "1"}) == ({name: "1"}, NOTHING)


def test_a_renderer_that_there_is_not_is_left_aside(ready):
    found, said = variables(ready, "MUJOCO_GL", MUJOCO_GL="x11")
    assert (found["MUJOCO_GL"], said.count("MUJOCO_GL=x11 is left aside")) == ("unset", 1)
    assert variables(ready, "MUJOCO_GL", MUJOCO_GL="osmesa") == ({"MUJOCO_GL": "osmesa"}, NOTHING)


@pytest.mark.parametrize("name", ["HOME", "ROS_HOME", "ROS_LOG_DIR"])
def test_logs_go_into_the_workspace_where_they_cannot_be_written(ready, name):
    found, said = variables(ready, "ROS_LOG_DIR", **{name: "/proc/x"})
    assert found["ROS_LOG_DIR"] == f"{ready.root}/.serl/jazzy/ros_log"
    (line,) = said.splitlines()
    assert line.startswith(f"serl: note: {name}=/proc/x gives no folder that logs can be written to")


@pytest.mark.parametrize("environment", [{"ROS_LOG_DIR": "~/logs"}, {"ROS_HOME": "{tmp}/home"}, {}])
def test_logs_stay_where_they_can_be_written(ready, tmp_path, environment):
    environment = {name: value.format(tmp=tmp_path) for name, value in environment.items()}
    found, said = variables(ready, "ROS_LOG_DIR", **environment)
    assert (found["ROS_LOG_DIR"], said) == (environment.get("ROS_LOG_DIR", "unset"), NOTHING)


def test_a_profile_that_is_not_there_is_named(ready):
    _, said = variables(ready, "HOME", FASTRTPS_DEFAULT_PROFILES_FILE="/nowhere.xml")
    assert said.splitlines()[0] == "serl: note: FASTRTPS_DEFAULT_PROFILES_FILE=/nowhere.xml: " + (
        "there is no such file; unset it, or correct it."
    )
    assert "NETWORK OPEN" in said  # Fast DDS then has its own default: every interface


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHOME": "/usr"},
        {"TMPDIR": "/nowhere"},
        {"LANG": "C", "LC_ALL": "C"},
        {"CDPATH": "/usr:/tmp"},
        {"VIRTUAL_ENV": "/home/me/venv", "CONDA_PREFIX": "/home/me/conda"},
        {"AMENT_TRACE_SETUP_FILES": "1", "COLCON_TRACE": "1"},
        {"ROS_LOCALHOST_ONLY": "1"},
    ],
)
@pytest.mark.parametrize("state", ["workspace", "ready"])
def test_does_no_harm(state, environment, request):
    result = request.getfixturevalue(state).serl("nodes", **environment)
    assert (result.returncode, result.stdout) == (0, "[nodes]\n")
    if state == "ready":
        assert result.stderr == NOTHING


def test_without_a_home(ready):
    del ready.environment["HOME"]
    found, _ = variables(ready, "HOME")
    assert found["HOME"] not in ("", "unset")


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_an_unusual_umask(workspace, mask):
    result = subprocess.run(
        workspace.command("nodes"), env=workspace.environment, umask=mask, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "[nodes]\n")


def test_the_environment_can_be_had_in_a_terminal(ready, tmp_path):
    script = f"""eval "$({ready.root}/serl env)"; echo "$AMENT_PREFIX_PATH $SOURCED $ODD ${{PYTHONHOME-unset}}" """
    environment = ready.environment | {"ODD": "it's\n$HOME", "PYTHONHOME": "/usr"}
    result = subprocess.run(
        ["bash", "-euc", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout == f"{ready.root}/.venv yes it's\n$HOME unset\n", result.stderr


def test_the_wheels_are_for_one_processor_only(workspace, native):
    tool = workspace.tools / "uname"
    tool.write_text("#!/bin/bash\necho aarch64\n")
    tool.chmod(0o755)
    path = f"{workspace.tools}:{workspace.environment['PATH']}"
    result = workspace.serl("train", PATH=path)
    assert (result.returncode, workspace.calls()) == (1, [])
    (line,) = result.stderr.splitlines()
    assert "x86-64 only, and this machine is aarch64" in line and "source it" in line
    assert workspace.serl("nodes", **native, PATH=path).stdout == "[nodes]\n"
