# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_launch",
    version="0.1.0",
    description="The launch runner, graphs that a command starts for itself, and clients of a running graph.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_launch"]),
        ("share/serl_launch", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={"console_scripts": []},
)
