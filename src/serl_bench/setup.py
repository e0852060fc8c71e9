# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_bench",
    version="0.1.0",
    description="Measures every number that the documentation promises.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_bench"]),
        ("share/serl_bench", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={"console_scripts": []},
)
