# SPDX-License-Identifier: Apache-2.0
from setuptools import setup

setup(
    name="lerobot_teleoperator_serl",
    version="0.1.0",
    description="A teleoperator of LeRobot that stands for a running graph of SERL for ROS 2.",
    license="Apache-2.0",
    packages=["lerobot_teleoperator_serl"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/lerobot_teleoperator_serl"]),
        ("share/lerobot_teleoperator_serl", ["package.xml"]),
    ],
    zip_safe=True,
)
