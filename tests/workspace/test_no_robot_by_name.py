# SPDX-License-Identifier: Apache-2.0
"""Code knows no robot by its name: what is a robot's is in its files."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = re.compile(r"panda(?!s)|franka|fr3|so101|piper|trossen", re.IGNORECASE)  # pandas is a library
# File -> number of lines with a name, and why they are there.
ALLOWED = {
    "serl_sim/__init__.py": (3, "names of environments that are public: Gymnasium users have them in their scripts"),
    "serl_teleop/devices/leader/chain.py": (1, "file of the arm that the leader of a kit is, a default of a parameter"),
    "serl_teleop/devices/leader/servo_leader.py": (1, "names of folders in which LeRobot keeps calibrations"),
    "serl_cli/commands/train.py": (2, "examples of --robot"),
    "serl_cli/commands/record.py": (1, "an example of --robot"),
    "serl_cli/commands/repair.py": (1, "an example of --robot"),
    "serl_bench/arm_benchmarks.py": (4, "numbers that are of one arm"),
    "serl_bench/library/motion.py": (1, "the arm of these numbers"),
    "serl_bench/safety/deaths.py": (1, "the arm of these numbers"),
    "serl_bench/safety/wire.py": (1, "the arm of these numbers"),
    "serl_bench/graph/training_runs.py": (2, "the arm of one of these numbers"),
    "serl_bench/fuzz/hostile_messages.py": (2, "texts that pass for those of the graph that is attacked"),
}


def test_only_files_with_a_reason_name_a_robot():
    found = {}
    for file in sorted(ROOT.glob("src/serl_*/serl_*/**/*.py")):
        if file.is_relative_to(ROOT / "src/serl_drivers"):
            continue  # a driver is one vendor's
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if NAMES.search(line)]
        if lines:
            found["/".join(file.relative_to(ROOT / "src").parts[1:])] = len(lines)
    assert found == {file: lines for file, (lines, _) in ALLOWED.items()}


def test_launch_files_name_a_robot_only_as_the_default_of_an_argument():
    for file in (ROOT / "src/serl_bringup/launch").glob("*.xml"):
        for line in file.read_text(encoding="utf-8").splitlines():
            default = re.match(r'\s*<arg name="(urdf|servo_arms|own_robot|own_driver)" default="', line)
            assert default or not NAMES.search(line), (file.name, line)


def test_worlds_name_no_robot():
    for file in (ROOT / "src/serl_bringup/config/worlds").glob("*.yaml"):
        assert not NAMES.search(file.read_text(encoding="utf-8")), file.name
