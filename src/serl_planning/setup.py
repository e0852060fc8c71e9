# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_planning",
    version="0.1.0",
    description="Motions that are computed ahead: inverse kinematics with limits, distances, planned ways.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_planning"]),
        ("share/serl_planning", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={"console_scripts": ["planner = serl_ros.console:serl_planning.planner_node"]},
)
