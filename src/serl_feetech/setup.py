# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_feetech",
    version="0.1.0",
    description="Bus of Feetech STS3215 servos, arms of them, and an emulated bus. Knows no ROS.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_feetech"]),
        ("share/serl_feetech", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
)
