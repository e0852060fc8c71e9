# SPDX-License-Identifier: Apache-2.0
"""Parameters that describe themselves."""

from array import array
from collections.abc import Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from serl_config.schema import nearest

T = TypeVar("T", bool, int, float, str, list[int], list[float], list[str])


class ParameterError(ValueError):
    """A parameter was given a value that it cannot have."""


def declare(
    node: Node,
    name: str,
    default: T,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    choices: Sequence[str] | None = None,
    read_only: bool = True,
) -> T:
    """Declare a parameter with its description and limits, and return its value.

    Args:
        node: that owns the parameter.
        name: of the parameter.
        default: value when none is given; its type is the parameter's type; an empty list is one of numbers.
        description: one sentence, with the unit.
        range: smallest and largest value allowed, for int and float.
        choices: values allowed, for str.
        read_only: whether it is fixed once the node runs.

    Raises:
        ParameterError: the value given from outside has the wrong type, is out of range or not a choice.
    """
    numbers: Any = default == []  # whose type rclpy cannot tell
    descriptor = ParameterDescriptor(description=description, read_only=read_only, dynamic_typing=numbers)
    if range is not None and isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(range[0]), to_value=float(range[1]))]
    elif range is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(range[0]), to_value=int(range[1]), step=1)]
    if choices is not None:
        descriptor.additional_constraints = "one of: " + ", ".join(choices)
    where = f"parameter '{name}' of node '{node.get_fully_qualified_name().removeprefix('/')}'"
    try:
        value: Any = node.declare_parameter(name, default, descriptor).value
    except InvalidParameterTypeException as error:
        raise ParameterError(f"{where}: expected {type(default).__name__}; {error}") from error
    except InvalidParameterValueException as error:
        limits = f" in {list(range)}" if range is not None else ""
        raise ParameterError(f"{where}: expected {type(default).__name__}{limits}; {error}") from error
    if numbers and not (isinstance(value, list | array) and all(isinstance(each, float) for each in value)):
        raise ParameterError(f"{where}: expected a list of numbers with a decimal point, found {value!r}")
    if choices is not None and value not in choices:
        raise ParameterError(f"{where}: '{value}' is not one of {', '.join(choices)}{nearest(str(value), choices)}")
    return value
