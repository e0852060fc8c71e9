# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

setup(
    name="serl_training",
    version="0.1.0",
    description="The learning graph: actor, learner and reward nodes, and the ROS environment.",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/serl_training"]),
        ("share/serl_training", ["package.xml"]),
    ],
    zip_safe=True,
    extras_require={"test": ["pytest"]},  # colcon looks here whether there are tests
    entry_points={
        "console_scripts": [
            "actor = serl_ros.console:serl_training.actor_node",
            "agentlace_gateway = serl_ros.console:serl_training.agentlace_gateway_node",
            "fleet = serl_ros.console:serl_training.fleet_node",
            "learner = serl_ros.console:serl_training.learner_node",
            "raw_recorder = serl_ros.console:serl_training.raw_recorder_node",
            "reward = serl_ros.console:serl_training.reward_node",
            "reward_classifier = serl_ros.console:serl_training.classifier_node",
            "reward_human = serl_ros.console:serl_training.human_reward_node",
        ]
    },
)
