# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_cli",
    version="0.1.0",
    description="The command line: learn, evaluate, record, measure, look into a graph, stop an arm.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_cli"]),
        ("share/serl_cli", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={"console_scripts": []},
)
