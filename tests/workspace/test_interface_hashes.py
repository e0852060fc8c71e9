# SPDX-License-Identifier: Apache-2.0
"""The interfaces that we build where the wheels lack them are the ones that every native ROS 2 speaks.

Two nodes talk only if the hashes (RIHS01) of their types agree. A hash covers names, types and order of all fields, so
equal hashes prove the definitions in src/compat exact. The values are those of the upstream packages, and hold as well
where native packages are used.
"""

import json
import os
from pathlib import Path

import pytest

PUBLISHED = {
    "tf2_msgs/msg/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "tf2_msgs/msg/TF2Error": "db2485e7d6a0ec75bf087e058ee45df682acc3a621ca7780503d10aac141809a",
    "tf2_msgs/action/LookupTransform": "0b8adf6bc0b5958879e3265b41a457e03558fe523890a81252c70eba97a82c5d",
    "control_msgs/msg/JointTrajectoryControllerState": (
        "51d8dd89cc624cbe9daaeeb4d80d6de9b86168ffdc3be41fefc0953e3c26e480"
    ),
    "control_msgs/msg/JointTolerance": "c254f9cece0f3b733017b6990fd46d1326e25242d6b8844398c97d9a88e7d648",
    "control_msgs/msg/JointComponentTolerance": "739ea7566931944d33830fa10f1bf5e7a7fbdc3172bce7a7eaac642bd6e3ffa4",
    "control_msgs/msg/GripperCommand": "57eb8f326c9889ca8bb34ead82cc94cc09bf6bc5c3b6c09546dca3a00b589890",
    "control_msgs/action/GripperCommand": "e17c0e644eccf14bea84a0a93e0977182872c2eb7873ca6694900059b46dbc84",
    "control_msgs/action/ParallelGripperCommand": "adfd3c1ebe8abc38ebcc0e454b6423d291d4010dd5697d14eca5b9be4726ae18",
}
ON_JAZZY = os.environ.get("ROS_DISTRO") == "jazzy"
if not ON_JAZZY:  # whose feedback lacks two index fields
    PUBLISHED |= {
        "control_msgs/action/FollowJointTrajectory": "ff29901b2693f5deb847e96084a1c2cdb26e70b7c847be21859b70a55fb29cf0",
        "control_msgs/action/FollowJointTrajectory_FeedbackMessage": (
            "95618cc73912d99b9acaa17d2da5e832cb0bfdeede7534fa8ec600feca2a6c4b"
        ),
    }


def description(type_name: str) -> dict:
    """Return rosidl's JSON description of an interface, from the prefixes on AMENT_PREFIX_PATH."""
    package, kind, name = type_name.split("/")
    prefixes = os.environ["AMENT_PREFIX_PATH"].split(":")
    files = [Path(prefix, "share", package, kind, f"{name.partition('_')[0]}.json") for prefix in prefixes]
    for file in files:
        if file.is_file():
            return json.loads(file.read_text())
    pytest.fail(f"{type_name}: none of {', '.join(map(str, files))} exists")


def type_hash(type_name: str) -> str:
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description(type_name)["type_hashes"]}
    return hashes[type_name].removeprefix("RIHS01_")


@pytest.mark.parametrize("type_name", PUBLISHED)
def test_the_type_hash_is_the_published_one(type_name):
    assert type_hash(type_name) == PUBLISHED[type_name]


def test_only_jazzy_leaves_the_indices_out_of_the_trajectory_feedback():
    definition = description("control_msgs/action/FollowJointTrajectory")["type_description_msg"]
    feedback = next(
        referenced
        for referenced in definition["referenced_type_descriptions"]
        if referenced["type_name"] == "control_msgs/action/FollowJointTrajectory_Feedback"
    )
    names = [field["name"] for field in feedback["fields"]]
    with_indices = [
        "header", "joint_names", "desired", "actual", "error", "index",
        "multi_dof_joint_names", "multi_dof_desired", "multi_dof_actual", "multi_dof_error", "multi_dof_index",
    ]  # fmt: skip
    assert names == [name for name in with_indices if not (ON_JAZZY and name.endswith("index"))]
