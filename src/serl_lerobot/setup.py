# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

# Those of LeRobot 0.4 and later.
COMMANDS = (
    "calibrate", "dataset-viz", "edit-dataset", "eval", "find-cameras", "find-joint-limits", "find-port",
    "imgtransform-viz", "info", "record", "replay", "setup-can", "setup-motors", "teleoperate", "train",
)  # fmt: skip

setup(
    name="serl_lerobot",
    version="0.1.0",
    description="LeRobot's robots in our environments and graph, and our graph as a robot of LeRobot.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_lerobot"]),
        ("share/serl_lerobot", ["package.xml"]),
    ],
    entry_points={"console_scripts": [f"lerobot-{name} = serl_lerobot.__main__:command" for name in COMMANDS]},
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
)
