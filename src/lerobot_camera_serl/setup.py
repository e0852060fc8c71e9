# SPDX-License-Identifier: Apache-2.0
from setuptools import setup

setup(
    name="lerobot_camera_serl",
    version="0.1.0",
    description="A camera of LeRobot that stands for a running graph of SERL for ROS 2.",
    license="Apache-2.0",
    packages=["lerobot_camera_serl"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/lerobot_camera_serl"]),
        ("share/lerobot_camera_serl", ["package.xml"]),
    ],
    zip_safe=True,
)
