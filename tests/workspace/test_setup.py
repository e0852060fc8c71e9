# SPDX-License-Identifier: Apache-2.0
"""What ./serl does, and does not do again: the real script on a small workspace, with doubles of Python and colcon."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest


def test_the_first_start_sets_up_with_hashes_and_hands_the_arguments_over(workspace):
    result = workspace.serl("train", "pick cube", "--seed=1")
    assert (result.returncode, result.stdout) == (0, "[train][pick cube][--seed=1]\n")
    make_venv, install, build = workspace.calls()
    assert make_venv == f"-m venv {workspace.root}/.venv"
    assert install == f"-I {workspace.root}/scripts/install_packages.py {workspace.root}/requirements/jazzy.txt"
    assert "build --symlink-install" in build


def test_the_second_start_sets_nothing_up_and_is_quick(ready):
    durations = []
    for _ in range(3):  # the best of them: other tests may keep the machine busy
        start = time.monotonic()
        result = ready.serl("nodes")
        durations.append(time.monotonic() - start)
        assert (result.stdout, result.stderr, ready.calls()) == ("[nodes]\n", "", [])
    assert min(durations) < 1.0


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("src/serl_a/msg/A.msg", ["serl_a"]),
        ("src/serl_a/package.xml", ["serl_a"]),
        ("src/compat/tf2_msgs/package.xml", ["tf2_msgs"]),
        ("config/new.yaml", ["serl_bringup"]),
        ("cmake/ros_wheels.cmake", [""]),  # all
        ("src/serl_a/serl_a/code.py", []),  # linked into place
        ("config/a.yaml", []),
    ],
)
def test_a_change_builds_what_it_concerns(ready, changed, rebuilt):
    ready.write(changed, "changed\n")
    ready.serl("setup")
    assert ready.builds() == rebuilt
    ready.serl("setup")
    assert ready.builds() == []


CHECKS = ["ruff check", "mypy ", "lint-imports "]
PARALLEL = f"-m pytest -n {min(4, len(os.sched_getaffinity(0)))} --dist loadfile"


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ([], [*CHECKS, f"{PARALLEL} -m not graph", "-m pytest -m graph"]),  # as CI: everything
        (["--durations=9"], [f"{PARALLEL} -m not graph --durations=9", "-m pytest -m graph --durations=9"]),
        (["--fast"], [*CHECKS, f"{PARALLEL} -m not graph and not slow"]),
        (["src/serl_rl/test", "-k", "journal"], ["-m pytest src/serl_rl/test -k journal"]),
        (["--fast", "tests"], ["-m pytest -m not graph and not slow tests"]),
        (["--mutants", "vice"], ["scripts/mutants.py vice"]),
    ],
)
def test_what_is_tested(ready, arguments, calls):
    assert ready.serl("test", *arguments).returncode == 0
    assert ready.calls() == calls


@pytest.mark.parametrize("tool", ["ruff", "mypy", "lint-imports"])
def test_a_check_that_fails_fails_the_tests_which_run_all_the_same(ready, tool):
    ready.calls_file.with_name(f"calls.{tool}_fails").touch()
    result = ready.serl("test", "--fast")
    assert result.returncode == 1
    assert f"{'ruff check' if tool == 'ruff' else tool}: failed" in result.stderr
    assert ready.calls()[-1].startswith("-m pytest")


@pytest.mark.parametrize("command", ["estop", "reset-estop"])
def test_who_stops_an_arm_waits_for_no_set_up(ready, command):
    ready.write("src/serl_a/package.xml", "changed\n")
    result = ready.serl(command, "--namespace", "left")
    assert (result.stdout, ready.calls()) == (f"[{command}][--namespace][left]\n", [])


@pytest.mark.parametrize(
    "before",
    [
        ["--secure=keys"],
        ["--secure", "keys"],
        ["--secure"],
        ["--secure", ""],
        ["--network", "--debug", "--secure", "keys"],
    ],
)
def test_an_e_stop_behind_options_waits_for_no_set_up(ready, before):
    ready.write("src/serl_a/package.xml", "changed\n")
    result = ready.serl(*before, "estop")
    words = "".join(f"[{word}]" for word in before if word != "--network")
    assert (result.stdout, ready.calls()) == (f"{words}[estop]\n", [])


def test_what_is_not_set_up_stops_no_arm_and_sets_nothing_up(workspace):
    result = workspace.serl("estop")
    assert (result.returncode, workspace.calls()) == (1, [])
    assert "use the button on the robot" in result.stderr


def test_a_renamed_file_leaves_no_link_behind(ready):
    link = ready.root / "install/serl_bringup/share/serl_bringup/config/a.yaml"
    link.parent.mkdir(parents=True)
    link.symlink_to(ready.root / "config/a.yaml")
    ready.write("src/serl_a/package.xml", "changed\n")
    ready.serl("setup")
    assert link.is_symlink()
    (ready.root / "config/a.yaml").rename(ready.root / "config/b.yaml")
    ready.serl("setup")
    assert ready.builds()[-1] == "serl_bringup" and not link.is_symlink()


def test_new_requirements_make_a_new_environment_and_build(ready):
    ready.write("requirements/jazzy.txt", "numpy==3\n")
    ready.serl("setup")
    assert len(ready.calls()) == 3


def test_optional_packages_are_installed_with_hashes_as_the_others(ready):
    ready.write("requirements/extras/eyes.txt", "eyes==1\n")
    assert ready.serl("setup", "eyes").returncode == 0
    lock = ready.root / "requirements/extras/eyes.txt"
    assert ready.calls() == [f"-I {ready.root}/scripts/install_packages.py {lock}"]
    assert ready.serl("setup").returncode == 0
    assert ready.calls() == []
    for name in ("ears", "../jazzy"):
        result = ready.serl("setup", name)
        assert result.returncode == 1
        assert f"setup {name}: expected optional packages that there are: eyes." in result.stderr


def test_several_optional_packages_are_installed_by_one_command_or_none_of_them(ready):
    for name in ("eyes", "ears"):
        ready.write(f"requirements/extras/{name}.txt", f"{name}==1\n")
    result = ready.serl("setup", "eyes", "noses")
    assert result.returncode == 1 and "setup noses: expected" in result.stderr
    assert ready.calls() == []
    assert ready.serl("setup", "eyes", "ears").returncode == 0
    install, extras = f"-I {ready.root}/scripts/install_packages.py", f"{ready.root}/requirements/extras"
    assert ready.calls() == [f"{install} {extras}/eyes.txt", f"{install} {extras}/ears.txt"]


def test_what_a_new_environment_brings_back(ready):
    names = ("eyes", "ears", "nose", "torch-cpu")
    for name in names:
        ready.write(f"requirements/extras/{name}.txt", f"{name}==1\n")
    result = ready.serl("setup", *names)
    assert result.stderr.splitlines()[-1].endswith("optional packages: torch-cpu eyes ears nose)")
    ready.calls()
    ready.write("requirements/jazzy.txt", "numpy==3\n")
    (ready.root / "requirements/extras/ears.txt").unlink()  # no part of the new version
    Path(f"{ready.calls_file}.nose_fails").touch()
    result = ready.serl("train")
    assert result.returncode == 0
    assert "serl: brings back the optional packages that were set up here: torch-cpu eyes ears nose\n" in result.stderr
    assert "serl: note: ears is no optional package of this version, and forgotten" in result.stderr
    assert "serl: note: nose is not there now; everything else is. ./serl setup tries it again." in result.stderr
    install = f"-I {ready.root}/scripts/install_packages.py {ready.root}/requirements/extras/"
    installed = [call.removeprefix(install) for call in ready.calls() if call.startswith(install)]
    assert installed == ["torch-cpu.txt", "eyes.txt", "nose.txt"]
    assert ready.serl("train").stderr == "" and ready.calls() == []  # it holds up nothing
    Path(f"{ready.calls_file}.nose_fails").unlink()
    result = ready.serl("setup")
    assert ready.calls() == [f"{install}nose.txt"]
    assert result.stderr.splitlines()[-1].endswith("optional packages: torch-cpu eyes nose)")
    assert ready.serl("setup").returncode == 0 and ready.calls() == []


def test_an_interrupted_new_environment_still_brings_everything_back(ready):
    ready.write("requirements/extras/eyes.txt", "eyes==1\n")
    assert ready.serl("setup", "eyes").returncode == 0
    ready.write("requirements/jazzy.txt", "numpy==3\n")
    fails = Path(f"{ready.calls_file}.pip_fails")
    fails.touch()
    assert ready.serl("setup").returncode == 1
    fails.unlink()
    ready.calls()
    assert ready.serl("setup").returncode == 0
    assert any(call.endswith("extras/eyes.txt") for call in ready.calls())


def test_the_help_of_setup_names_what_there_is_and_sets_nothing_up(workspace):
    workspace.write("requirements/extras/eyes.txt", "eyes==1\n")
    result = workspace.serl("setup", "--help")
    assert (result.returncode, workspace.calls()) == (0, [])
    assert "EXTRA: eyes\nset up here: none of them\n" in result.stdout
    assert workspace.serl("setup", "eyes").returncode == 0
    assert "set up here: eyes\n" in workspace.serl("setup", "--help").stdout


@pytest.mark.parametrize(
    ("card", "found", "there", "names", "installed"),
    [
        (False, True, "", ["torch"], ["torch-cpu"]),
        (False, False, "", ["torch"], ["torch-cuda"]),  # with a note
        (True, True, "", ["torch"], ["torch-cuda"]),
        (True, True, "torch-cpu", ["torch"], ["torch-cuda"]),
        (False, True, "torch-cuda", ["torch"], ["torch-cuda"]),  # as somebody wanted it
        (True, True, "", ["torch-cpu"], ["torch-cpu"]),
        (False, True, "", ["acts", "torch"], ["torch-cpu", "acts", "torch-cpu"]),
        (True, True, "torch-cpu", ["acts"], ["acts"]),
        (False, True, "", ["eyes"], ["eyes"]),
    ],
)
def test_which_build_of_pytorch_comes(ready, card, found, there, names, installed):
    for name in ("acts", "eyes", "torch-cpu", "torch-cuda"):
        ready.write(f"requirements/extras/{name}.txt", f"{name}==1\n")
    ready.write("requirements/extras/acts.in", "# Stands on: torch\nacts==1\n")
    tool = ready.tools / "nvidia-smi"
    tool.write_text(f"#!/bin/bash\nexit {0 if card else 9}\n")
    tool.chmod(0o755)
    if not found:
        Path(f"{ready.calls_file}.no_build_for_cpus").touch()
    if there:
        Path(f"{ready.calls_file}.{there}.txt").touch()
    result = ready.serl("setup", *names, PATH=f"{ready.tools}:{ready.environment['PATH']}")
    assert result.returncode == 0, result.stderr
    lock = f"-I {ready.root}/scripts/install_packages.py {ready.root}/requirements/extras/"
    assert ready.calls() == [f"{lock}{name}.txt" for name in installed]
    assert ("set PIP_EXTRA_INDEX_URL" in result.stderr) == (not found)


def test_a_lost_file_in_the_environment_makes_a_new_one(ready):
    (ready.root / ".venv/lib/installed").unlink()
    result = ready.serl("setup")
    assert result.stderr.startswith("serl: lib/installed is missing\n")
    assert len(ready.calls()) == 3


def test_a_further_file_in_the_environment_is_no_damage(ready):
    (ready.root / ".venv/lib/added").touch()
    assert ready.serl("setup").returncode == 0
    assert ready.calls() == []


@pytest.mark.parametrize("lost", [".venv", "install", "install/serl_a"])
def test_a_lost_folder_is_made_again(ready, lost):
    shutil.rmtree(ready.root / lost)
    assert ready.serl("setup").returncode == 0
    assert len(ready.calls()) == (3 if lost == ".venv" else 1)
    assert (ready.root / lost).is_dir()


def test_a_moved_workspace_is_set_up_again(ready):
    ready.root = ready.root.rename(ready.root.with_name("elsewhere"))
    assert ready.serl("setup").returncode == 0
    assert ready.calls()[0] == f"-m venv {ready.root}/.venv"


def test_a_failed_installation_says_so_and_is_done_again(workspace):
    fails = Path(f"{workspace.calls_file}.pip_fails")
    fails.touch()
    result = workspace.serl("train")
    assert result.returncode == 1
    assert "  | pip: the network is down" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("serl: error: failed: Python packages of requirements/jazzy.txt.")
    workspace.calls()
    fails.unlink()
    assert workspace.serl("train").returncode == 0
    assert len(workspace.calls()) == 3


def test_an_interrupted_installation_is_done_again(workspace):
    hangs = Path(f"{workspace.calls_file}.pip_hangs")
    hangs.touch()
    process = subprocess.Popen(
        workspace.command("train"), env=workspace.environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: workspace.calls_file.exists() and "install_packages" in workspace.calls_file.read_text())
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "serl: set-up interrupted; the next ./serl does it again"
    workspace.calls()
    hangs.unlink()
    assert workspace.serl("train").returncode == 0
    assert len(workspace.calls()) == 3


def test_two_first_starts_at_once_set_up_once(workspace):
    processes = [
        subprocess.Popen(workspace.command("train"), env=workspace.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=30)[0] for process in processes] == ["[train]\n"] * 2
    assert len(workspace.calls()) == 3


@pytest.mark.parametrize("user", ["0", "1000"])
def test_missing_system_packages_are_installed_by_root_and_named_to_others(workspace, user):
    path = workspace.tools / "path"
    path.mkdir()
    used = "bash cat diff dirname find flock grep head ldconfig make mkdir readlink rm sed sha256sum sort tail xargs"
    for tool in used.split():
        (path / tool).symlink_to(shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin"))
    for tool, text in {"id": f"echo {user}", "apt-get": 'echo "apt-get $*" >>"$CALLS"'}.items():
        (path / tool).write_text(f"#!/bin/bash\n{text}\n")
        (path / tool).chmod(0o755)
    result = workspace.serl("train", PATH=str(path))
    assert result.returncode == 1  # the stand-in installs nothing
    if user == "0":
        update, install = workspace.calls()
        assert update == "apt-get update"
        assert install.startswith("apt-get install -y") and install.endswith("gcc g++ cmake")
    else:
        assert result.stderr.splitlines()[-1].strip() == (
            "sudo apt-get update && sudo apt-get install -y gcc g++ cmake"
        )
        assert workspace.calls() == []
    assert not (workspace.root / ".venv").exists()


def test_another_python_is_refused_before_anything_is_done(workspace):
    (workspace.tools / "python").write_text("#!/bin/bash\n[ $1 = --version ] && echo Python 3.13.0\n")
    result = workspace.serl("train")
    assert result.returncode == 1
    assert "needs Python 3.11 or 3.12" in result.stderr and "is Python 3.13.0." in result.stderr
    assert not (workspace.root / ".venv").exists()


def test_kilted_lives_beside_jazzy(ready):
    assert ready.serl("setup", SERL_ROS_DISTRO="kilted").returncode == 0
    make_venv, install, _ = ready.calls()
    assert make_venv == f"-m venv {ready.root}/.venv-kilted"
    assert install.endswith("requirements/kilted.txt")
    assert ready.serl("setup").returncode == 0
    assert ready.calls() == []


def test_an_unknown_distribution_is_refused(workspace):
    result = workspace.serl("train", SERL_ROS_DISTRO="humble")
    assert (result.returncode, result.stderr) == (1, "serl: error: SERL_ROS_DISTRO=humble: expected jazzy or kilted.\n")


def test_a_native_ros_is_used_and_what_it_has_is_not_built(workspace, native):
    assert workspace.serl("setup", **native).returncode == 0
    make_venv, install, _ = workspace.calls()
    assert make_venv == f"-m venv {workspace.root}/.venv-native-jazzy", (
        "closed: the system's packages are no part of it"
    )
    assert install.endswith("requirements/native.txt")
    defaults = (workspace.root / ".serl/native-jazzy/colcon_defaults.yaml").read_text()
    assert "ros_wheels.cmake" not in defaults
    assert "compat/tf2_msgs" not in defaults and "compat/control_msgs" in defaults
    kept = workspace.serl("shell", "printenv", "AMENT_PREFIX_PATH", "PYTHONPATH", **native)
    assert kept.stdout.splitlines() == [native["AMENT_PREFIX_PATH"], native["PYTHONPATH"]]


def test_another_native_ros_of_the_same_name_is_another_environment(workspace, native):
    assert workspace.serl("setup", **native).returncode == 0
    workspace.calls()
    assert workspace.serl("setup", **native).returncode == 0
    assert workspace.calls() == []
    prefix = Path(native["AMENT_PREFIX_PATH"])
    other = {name: text.replace(str(prefix), f"{prefix}_of_conda") for name, text in native.items()}
    prefix.rename(f"{prefix}_of_conda")
    assert workspace.serl("setup", **other).returncode == 0
    assert len(workspace.calls()) == 3


def test_a_native_ros_among_condas_packages_comes_after_ours(workspace, native):
    Path(f"{workspace.calls_file}.rclpy_is_condas").touch()
    assert workspace.serl("setup", **native | {"PYTHONPATH": ""}).returncode == 0
    packages = workspace.root / ".venv-native-jazzy/lib/python3.11/site-packages"
    assert (packages / "native_ros.pth").read_text() == "/conda/site-packages\n"


def test_a_workspace_that_cannot_be_written_to_says_so(workspace):
    workspace.write(".serl", "")
    result = workspace.serl("train")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert f"{workspace.root}/.serl/jazzy cannot be written to" in result.stderr


def test_wheels_are_not_mixed_with_a_native_ros(workspace, native):
    result = workspace.serl("train", SERL_ROS_DISTRO="kilted", **native)
    assert result.returncode == 1
    assert result.stderr.startswith("serl: error: a native ROS 2 jazzy is sourced, but SERL_ROS_DISTRO=kilted")


def test_the_shell_has_the_environment_and_a_nested_start_is_no_native_ros(ready):
    script = 'echo "$AMENT_PREFIX_PATH $ROS_DISTRO $SOURCED"; exec "$0" nodes'
    result = ready.serl("shell", "bash", "-c", script, *ready.command())
    assert result.stdout.splitlines() == [f"{ready.root}/.venv jazzy yes", "[nodes]"]


def test_clean_leaves_the_runs(ready):
    ready.write("runs/first/metrics.csv", "step\n")
    assert ready.serl("clean").returncode == 0
    assert not {".venv", ".serl", "build", "install"} & {path.name for path in ready.root.iterdir()}
    assert (ready.root / "runs/first/metrics.csv").exists()


def test_help_before_the_set_up_sets_nothing_up(workspace):
    result = workspace.serl("--help")
    assert result.returncode == 0 and "./serl setup" in result.stdout
    assert workspace.calls() == []


def wait_for(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {timeout} s"
        time.sleep(0.02)


def test_a_world_of_others_has_a_virtual_environment_of_its_own_in_front_of_ours(ready):
    ready.write("requirements/gym/thing.txt", "thing==1\n")
    assert ready.serl("setup", "gym", "thing").returncode == 0
    venv = ready.root / ".venv-gym-thing"
    assert ready.calls() == [
        f"-m venv {venv}",
        f"-I {ready.root}/scripts/install_packages.py {ready.root}/requirements/gym/thing.txt",
    ]
    (behind,) = venv.glob("lib/python3*/site-packages/behind.pth")
    ours = ready.root / ".venv/lib/python3.11/site-packages"
    assert behind.read_text() == f"import site; site.addsitedir('{ours}')\n"
    assert ready.serl("setup", "gym", "thing").returncode == 0
    assert ready.calls() == [], "it is there"
    ready.write("requirements/gym/thing.txt", "thing==2\n")
    ready.serl("setup", "gym", "thing")
    assert len(ready.calls()) == 2, "made anew for another lock"


def test_a_world_whose_installation_failed_is_set_up_again(ready):
    ready.write("requirements/gym/thing.txt", "thing==1\n")
    fails = ready.calls_file.with_name(ready.calls_file.name + ".pip_fails")
    fails.touch()
    assert ready.serl("setup", "gym", "thing").returncode == 1
    fails.unlink()
    ready.calls()
    assert ready.serl("setup", "gym", "thing").returncode == 0
    assert len(ready.calls()) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gym", "other"), "setup gym other: expected a world that there is: thing. For one of your own see"),
        (("gym", "../thing"), "setup gym ../thing: expected a world that there is: thing."),
        (("gym",), "setup gym: expected one name, as in ./serl setup gym metaworld."),
        (("gym", "thing", "thing"), "setup gym: expected one name"),
    ],
)
def test_a_world_that_there_is_not_is_refused(ready, arguments, words):
    ready.write("requirements/gym/thing.txt", "thing==1\n")
    result = ready.serl("setup", *arguments)
    assert (result.returncode, ready.calls()) == (1, [])
    assert words in result.stderr
