# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_teleop",
    version="0.1.0",
    description="Where a person leads: devices and the scripted human.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    package_data={"serl_teleop.console": ["*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_teleop"]),
        ("share/serl_teleop", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={
        "console_scripts": [
            "scripted_human = serl_ros.console:serl_teleop.scripted_human_node",
            "teleop = serl_ros.console:serl_teleop.teleop_node",
            "console = serl_ros.console:serl_teleop.console_node",
        ]
    },
)
