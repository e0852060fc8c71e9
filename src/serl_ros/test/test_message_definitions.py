# SPDX-License-Identifier: Apache-2.0
"""Definitions of messages as text: of each type itself and everything that it is made of, once."""

import importlib
import re

import pytest

try:
    from serl_ros.message_definitions import DefinitionError, definition_text
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

NAMES = [
    "std_msgs/msg/String",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
    "visualization_msgs/msg/MarkerArray",
    "diagnostic_msgs/msg/DiagnosticArray",
    "serl_interfaces/msg/ArmState",
    "serl_interfaces/msg/SafetyStatus",
]


def fields_of(name):
    """Fields and their types, as the generated Python has them."""
    package, _, message = name.replace("/msg/", "/").partition("/")
    return getattr(importlib.import_module(f"{package}.msg"), message).get_fields_and_field_types()


def parts_of(name):
    """Every type that one is made of, at whatever depth, without itself."""
    found, waiting = set(), [name.replace("/msg/", "/")]
    while waiting:
        for kind in fields_of(waiting.pop()).values():
            part = re.sub(r"sequence<([^,>]*).*>|\[\d*\]", r"\1", kind)
            if "/" in part and part not in found:
                found.add(part)
                waiting.append(part)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_has_everything_that_the_message_is_made_of(name):
    own, *rest = definition_text(name).split("=" * 80 + "\nMSG: ")
    assert sorted(text.splitlines()[0] for text in rest) == sorted(parts_of(name))
    for text, of in [(own, name), *((text, text.splitlines()[0]) for text in rest)]:
        for field in fields_of(of):
            assert re.search(rf"^\s*\S+\s+{field}\b", text, re.MULTILINE), f"{field} of {of}"


def test_a_type_that_is_not_installed_is_named():
    with pytest.raises(DefinitionError, match="no_such_msgs/msg/Thing: its definition is not installed"):
        definition_text("no_such_msgs/msg/Thing")
    with pytest.raises(DefinitionError, match="std_msgs/msg/Thing: its definition is not installed"):
        definition_text("std_msgs/msg/Thing")
