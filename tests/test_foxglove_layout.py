# SPDX-License-Identifier: Apache-2.0
"""The layout for Foxglove: every topic and field that a panel shows is one that the graph has."""

import importlib
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("serl_interfaces.msg", reason="the workspace is not built")

LAYOUT = Path(__file__).resolve().parents[1] / "config/foxglove/serl.json"
TYPES = {
    "/front/color/image_raw/compressed": "sensor_msgs/CompressedImage",
    "/wrist/color/image_raw/compressed": "sensor_msgs/CompressedImage",
    "/front/color/camera_info": "sensor_msgs/CameraInfo",
    "/wrist/color/camera_info": "sensor_msgs/CameraInfo",
    "/robot_description": "std_msgs/String",
    "/markers": "visualization_msgs/MarkerArray",
    "/arm/markers": "visualization_msgs/MarkerArray",
    "/target_pose": "geometry_msgs/PoseStamped",
    "/joint_states": "sensor_msgs/JointState",
    "/wrench": "geometry_msgs/WrenchStamped",
    "/policy/action": "serl_interfaces/ActionCommand",
    "/teleop/action": "serl_interfaces/ActionCommand",
    "/arm/executed": "serl_interfaces/ExecutedAction",
    "/arm/state": "serl_interfaces/ArmState",
    "/arm/safety": "serl_interfaces/SafetyStatus",
    "/episode": "serl_interfaces/EpisodeStatus",
    "/reward": "serl_interfaces/Reward",
    "/diagnostics": "diagnostic_msgs/DiagnosticArray",
}
"""Of the topics that a layout may show, as docs/architecture.md has them."""


def strings(tree):
    """Every text in a tree of JSON, keys included."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    elif isinstance(tree, str):
        yield tree


def check_path(path):
    """Fail unless a path such as /wrench.wrench.force.x names fields of its topic."""
    topic, *fields = path.split(".")
    kind = TYPES[topic]
    for field in fields:
        name, index = re.fullmatch(r"(\w+)(\[\d+\])?", field).groups()
        package, _, message = kind.partition("/")
        found = getattr(importlib.import_module(f"{package}.msg"), message).get_fields_and_field_types()
        assert name in found, path
        kind = re.sub(r"sequence<(.*)>", r"\1", found[name])
        assert (index is not None) == found[name].startswith("sequence"), path


def test_panels_show_what_the_graph_has():
    tree = json.loads(LAYOUT.read_text(encoding="utf-8"))
    paths = {text for text in strings(tree) if text.startswith("/")}
    assert {path.split(".")[0] for path in paths} <= set(TYPES)
    for path in paths:
        check_path(path)


def test_every_panel_has_its_place_and_every_place_a_panel():
    tree = json.loads(LAYOUT.read_text(encoding="utf-8"))

    def leaves(node):
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(tree["layout"])) == sorted(tree["configById"])
