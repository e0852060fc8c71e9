# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_cameras",
    version="0.1.0",
    description="Cameras as ROS topics, and the page on which a crop is chosen.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    package_data={"serl_cameras": ["*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_cameras"]),
        ("share/serl_cameras", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={"console_scripts": ["camera = serl_ros.console:serl_cameras.camera_node"]},
)
