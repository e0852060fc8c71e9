# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_sim",
    version="0.1.0",
    description="MuJoCo worlds, Gymnasium environments and the MuJoCo bridge node.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_sim"]),
        ("share/serl_sim", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={
        "console_scripts": [
            "mujoco_bridge = serl_ros.console:serl_sim.mujoco_bridge_node",
            "gym_bridge = serl_ros.console:serl_sim.gym_bridge_node",
            "emulated_arm = serl_ros.console:serl_sim.emulated_arm_node",
        ]
    },
)
