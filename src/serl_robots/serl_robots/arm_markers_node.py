# SPDX-License-Identifier: Apache-2.0
"""What rviz shows of the safety filter: boxes, target, trail of the tool and who leads, in the colour of who leads."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from rclpy.node import Node
from serl_ros.qos import RELIABLE_1
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from serl_robots.arm_messages_node import fill_pose
from serl_robots.control.control_step import Command, Measured
from serl_robots.model.pose import Pose, Vector3
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.source import Source
from serl_robots.safety.walls import NUMBERS

_PERIOD: Final = 0.1  # [s] between two arrays
_TRAIL_POINTS: Final = 200
_GREEN, _RED = (0.2, 0.7, 0.3), (0.9, 0.3, 0.2)
_COLOURS: Final[dict[Source, Vector3]] = {
    Source.IDLE: (0.6, 0.6, 0.6),
    Source.POLICY: (0.15, 0.55, 0.95),
    Source.HUMAN: (0.95, 0.60, 0.10),
    Source.MOVE_TO: (0.60, 0.40, 0.85),
    Source.ESTOP: (0.90, 0.10, 0.10),
}


class ArmMarkers:
    """Publishes `arm/markers` while somebody looks."""

    def __init__(self, node: Node, limits: SafetyLimits, frame: str) -> None:
        """Draw `limits` in `frame`, that of the arm's base, on a topic of `node`."""
        self._publisher = node.create_publisher(MarkerArray, "arm/markers", RELIABLE_1)
        self._limits, self._frame = limits, frame
        self._trail: deque[Point] = deque(maxlen=_TRAIL_POINTS)
        self._due_at = 0.0

    def show(self, measured: Measured | None, commanded: Command | None, mode: Source, stamp: Time) -> None:
        """Call as often as there is news: what was measured and commanded last, who leads, and the stamp."""
        now = time.monotonic()
        if measured is None or now < self._due_at or self._publisher.get_subscription_count() == 0:
            return
        self._due_at = now + _PERIOD
        target = measured.tcp if commanded is None else commanded.target
        markers = [*self._build(measured.tcp, target, mode)]
        for marker in markers:
            marker.header.stamp, marker.header.frame_id = stamp, self._frame
        self._publisher.publish(MarkerArray(markers=markers))

    def _build(self, tool: Pose, target: Pose, mode: Source) -> Iterator[Marker]:
        limits, boxes, colour = self._limits, self._limits.keep_out, _COLOURS[mode]
        yield _edges("workspace", 0, (limits.workspace_min, limits.workspace_max), _GREEN)
        for index, first in enumerate(range(0, len(boxes), NUMBERS)):
            x, y, z, u, v, w = boxes[first : first + NUMBERS]
            box = _marker("keep_out", Marker.CUBE, _RED, 0.25)
            box.id = index
            box.pose.position = Point(x=0.5 * (x + u), y=0.5 * (y + v), z=0.5 * (z + w))
            box.scale.x, box.scale.y, box.scale.z = u - x, v - y, w - z
            yield box
            gap = limits.keep_out_distance
            yield _edges("keep_out_distance", index, ((x - gap, y - gap, z - gap), (u + gap, v + gap, w + gap)), _RED)
        x, y, z = tool.position.tolist()
        self._trail.append(Point(x=x, y=y, z=z))
        trail = _marker("trail", Marker.LINE_STRIP, colour, 0.9)
        trail.scale.x = 0.004
        trail.points = [*self._trail]
        yield trail
        ball = _marker("target", Marker.SPHERE, colour, 0.6)
        fill_pose(ball.pose, target)
        ball.scale.x = ball.scale.y = ball.scale.z = 0.02
        yield ball
        text = _marker("leader", Marker.TEXT_VIEW_FACING, colour, 1.0)
        text.text = mode.name.lower()
        text.scale.z = 0.04
        text.pose.position = Point(x=x, y=y, z=z + 0.2)
        yield text


def _edges(name: str, index: int, corners: tuple[Vector3, Vector3], colour: Vector3) -> Marker:
    """The twelve edges of a box."""
    marker = _marker(name, Marker.LINE_LIST, colour, 0.8)
    marker.id, marker.scale.x = index, 0.002
    points = [Point(x=x, y=y, z=z) for x, y, z in itertools.product(*zip(*corners, strict=True))]
    pairs = ((a, a | bit) for a in range(len(points)) for bit in (1, 2, 4) if not a & bit)
    marker.points = [points[end] for pair in pairs for end in pair]
    return marker


def _marker(name: str, kind: int, colour: Vector3, alpha: float) -> Marker:
    red, green, blue = colour
    marker = Marker(ns=name, type=kind, action=Marker.ADD, color=ColorRGBA(r=red, g=green, b=blue, a=alpha))
    marker.pose.orientation.w = 1.0
    return marker
