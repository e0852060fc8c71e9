# SPDX-License-Identifier: Apache-2.0
"""Parameters of the devices of the node `teleop`, and how each kind is opened."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Joy
from serl_ros.incoming import subscribe
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import RELIABLE_10
from serl_tasks.messages import MessageError

from serl_tasks import Task
from serl_teleop.devices.axes import NONE, TOOL_AXES, AxisMapping, MappingError
from serl_teleop.devices.buttons import Function, parse_buttons
from serl_teleop.devices.device import AXES, GRAB, Device, DeviceState
from serl_teleop.devices.gamepad import Gamepad
from serl_teleop.devices.hid.hidraw import DEV, SYSFS
from serl_teleop.devices.hid.spacemouse import SpaceMouse, find_space_mouse
from serl_teleop.devices.joy import joy_state
from serl_teleop.devices.kinds import Kind
from serl_teleop.devices.operator import DeviceSettings
from serl_teleop.devices.takeover import Timing
from serl_teleop.devices.terminal.keyboard import Keyboard
from serl_teleop.devices.topic_device import TopicDevice
from serl_teleop.devices.twist import twist_state

OnReport = Callable[[], object]

_NO_AXES = AxisMapping.parse([NONE] * len(TOOL_AXES), [1.0] * len(TOOL_AXES), 0.0)


def declare_settings(node: Node, kind: Kind) -> DeviceSettings:
    """Declare how a person uses a device: parameters `KIND.axes` and so on.

    Raises:
        ParameterError: one cannot be meant so.
    """
    if kind.is_arm:
        return DeviceSettings(_NO_AXES, Timing(0.0, 0.0, math.inf), {GRAB: Function.LEAD} | _buttons(node, kind))

    def seconds(name: str, default: float, description: str) -> float:
        return declare(node, f"{kind.name}.{name}", default, f"{description} [s].", range=(0.0, 60.0))

    axes = declare(
        node,
        f"{kind.name}.axes",
        list(kind.axes),
        f"Axes of the device for dx dy dz rx ry rz: {' '.join(AXES)}, with a sign before it, or none.",
    )
    scale = declare(
        node, f"{kind.name}.scale", list(kind.scale), "Share of a full action, for dx dy dz rx ry rz, in [0, 1]."
    )
    deadband = declare(
        node, f"{kind.name}.deadband", kind.deadband, "Share of the deflection that counts as none.", range=(0.0, 0.9)
    )
    start = seconds("start_time", kind.start_time, "Away from rest, before the person leads")
    release = seconds("release_time", kind.release_time, "At rest, before the person has let go")
    stuck = seconds("stuck_time", kind.stuck_time, "The same deflection, before an axis is taken for stuck; 0: never")
    buttons = _buttons(node, kind)
    try:
        return DeviceSettings(
            AxisMapping.parse(axes, scale, deadband), Timing(start, release, stuck or math.inf), buttons
        )
    except MappingError as error:
        raise ParameterError(f"parameter '{kind.name}.{error}") from error


def _buttons(node: Node, kind: Kind) -> dict[str, Function]:
    texts = declare(
        node,
        f"{kind.name}.buttons",
        list(kind.buttons) or [""],
        f"Functions of buttons, BUTTON=FUNCTION: {' '.join(function.value for function in Function)}.",
    )
    try:
        return parse_buttons(texts)
    except MappingError as error:
        raise ParameterError(f"parameter '{kind.name}.{error}") from error


def opener(node: Node, name: str, task: Task, on_report: OnReport = lambda: None) -> Callable[[], Device]:
    """What opens a device of this kind; its own parameters are declared at once.

    Args:
        node: whose parameters these are.
        name: kind of the device.
        task: that the person does.
        on_report: called after each message of a device that is a topic.

    Raises:
        ParameterError: one of them cannot be meant so.
    """
    return _OPENERS[name](node, task, on_report)


def _spacemouse(node: Node, _: Task, __: OnReport) -> Callable[[], Device]:
    path = declare(node, "spacemouse.path", "", "Device file; empty: the first one that is plugged in.")
    sysfs = Path(declare(node, "spacemouse.sysfs", str(SYSFS), "Where sysfs is mounted."))
    dev = Path(declare(node, "spacemouse.dev", str(DEV), "Where the device files are."))
    return lambda: SpaceMouse(find_space_mouse(path, sysfs, dev))


def _joy(node: Node, _: Task, on_report: OnReport) -> Callable[[], Device]:
    indices = declare(
        node, "joy.indices", [0, 1, 2, 3, 4, 5], f"Numbers of the axes {' '.join(AXES)} in the message; -1: none."
    )
    if len(indices) != 6:
        raise ParameterError(f"parameter 'joy.indices': expected six numbers, found {list(indices)}")
    return _topic(node, "joy", "joy", Joy, lambda message, stamp: joy_state(message, indices, stamp), on_report)


def _twist(node: Node, _: Task, on_report: OnReport) -> Callable[[], Device]:
    linear = declare(node, "twist.full_linear", 1.0, "Full deflection [m/s].", range=(1e-3, 100.0))
    angular = declare(node, "twist.full_angular", 1.0, "Full deflection [rad/s].", range=(1e-3, 100.0))

    def read(message: TwistStamped, stamp: float) -> DeviceState:
        return twist_state(message, linear, angular, stamp)

    return _topic(node, "twist", "teleop/twist", TwistStamped, read, on_report)


def _topic(
    node: Node, name: str, default: str, kind: Any, read: Callable[[Any, float], DeviceState], on_report: OnReport
) -> Callable[[], Device]:
    topic = declare(node, f"{name}.topic", default, f"Topic of the device, {kind.__name__}.")
    timeout = declare(node, f"{name}.timeout", 0.5, "Longest silence in a motion [s].", range=(0.05, 10.0))
    device = TopicDevice(topic, timeout)

    def take(message: Any) -> None:
        device.take(read(message, time.monotonic()))
        on_report()

    subscribe(node, kind, topic, take, RELIABLE_10, MessageError)
    return lambda: device


def _servo_leader(node: Node, task: Task, _: OnReport) -> Callable[[], Device]:
    from serl_teleop.leader_parameters_node import servo_leader  # kinematics take a second to load

    return servo_leader(node, task)


def _topic_leader(node: Node, task: Task, _: OnReport) -> Callable[[], Device]:
    from serl_teleop.leader_parameters_node import topic_leader

    return topic_leader(node, task)


_OPENERS: dict[str, Callable[[Node, Task, OnReport], Callable[[], Device]]] = {
    "spacemouse": _spacemouse,
    "gamepad": lambda _node, _task, _on_report: Gamepad,
    "keyboard": lambda _node, _task, _on_report: Keyboard,
    "joy": _joy,
    "twist": _twist,
    "leader": _servo_leader,
    "joint_leader": _topic_leader,
}
