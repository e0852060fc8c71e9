# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_robots",
    version="0.1.0",
    description="Robot models, kinematics and the safety filter, and the arm controller node.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_robots"]),
        ("share/serl_robots", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={"console_scripts": ["arm_controller = serl_ros.console:serl_robots.arm_controller_node"]},
)
