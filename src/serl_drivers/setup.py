# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_drivers",
    version="0.1.0",
    description="Drivers of real arms behind one contract, and the node that runs one.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_drivers"]),
        ("share/serl_drivers", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={
        "console_scripts": [
            "driver = serl_ros.console:serl_drivers.driver_node",
            "emulator = serl_ros.console:serl_drivers.emulator",
            "mock_hardware = serl_ros.console:serl_drivers.mock_hardware_node",
        ]
    },
)
