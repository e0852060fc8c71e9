# SPDX-License-Identifier: Apache-2.0
"""Messages read as YAML, as `ros2 topic echo` prints them."""

from array import array

import pytest
import yaml
from geometry_msgs.msg import Pose, PoseStamped
from sensor_msgs.msg import Image
from serl_launch.clients.message_text import message_class, select, to_plain, to_yaml
from serl_launch.errors import CommandError
from std_msgs.msg import Float64

from serl_interfaces.msg import SafetyStatus, WorldState


def test_a_message_is_valid_yaml_in_the_order_of_its_fields() -> None:
    message = WorldState(episode=3, names=["tcp", "cube"], poses=[Pose(), Pose()])
    plain = yaml.safe_load(to_yaml(message))
    assert list(plain) == ["header", "episode", "step", "names", "poses"]
    assert plain["names"] == ["tcp", "cube"]
    assert plain["poses"][1]["orientation"] == {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


def test_long_arrays_and_strings_are_cut_unless_asked_for() -> None:
    message = Image(encoding="x" * 200, data=array("B", range(200)))
    short, full = to_plain(message), to_plain(message, longest=None)
    assert short["data"] == [*range(128), "..."]
    assert short["encoding"] == "x" * 128 + "..."
    assert full["data"] == list(range(200))
    assert full["encoding"] == "x" * 200


def test_numpy_fields_and_single_values_are_plain() -> None:
    message = SafetyStatus(limit_names=["workspace"], limit_counts=array("Q", [2**63]))
    assert yaml.safe_load(to_yaml(message))["limit_counts"] == [2**63]
    assert to_yaml(1.5) == "1.5\n"
    assert to_yaml("text") == "text\n"


def test_a_field_is_selected_by_its_path() -> None:
    message = WorldState(names=["tcp", "cube"], poses=[Pose(), Pose()])
    message.poses[1].position.x = 0.5
    message.header.stamp.sec = 7
    assert select(message, "poses[1].position.x") == 0.5
    assert select(message, "header.stamp.sec") == 7
    assert select(message, "names[0]") == "tcp"


@pytest.mark.parametrize("path", ["nothing", "header.nothing", "header[0]", "header.", "header.frame_id[x]"])
def test_a_wrong_field_is_named_with_those_there_are(path: str) -> None:
    with pytest.raises(CommandError, match="no field"):
        select(PoseStamped(), path)


def test_a_type_name_becomes_its_class() -> None:
    assert message_class("std_msgs/msg/Float64") is Float64


@pytest.mark.parametrize("name", ["Float64", "std_msgs/Float64", "nowhere_msgs/msg/X", "std_msgs/msg/Nothing"])
def test_an_unknown_type_is_one_readable_error(name: str) -> None:
    with pytest.raises(CommandError, match="message type"):
        message_class(name)
