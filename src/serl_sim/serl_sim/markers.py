# SPDX-License-Identifier: Apache-2.0
"""What rviz shows beside the robot: workspace box, target, trail of the tool, objects; coloured by who leads."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from serl_robots.model.pose import Pose
from serl_tasks.arm_sample import tool_name
from serl_tasks.objects.solid import Shape
from serl_tasks.task import Task
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

_TRAIL_POINTS = 200
_IDLE = (0.6, 0.6, 0.6)
# By SafetyStatus.mode: idle, policy, human, move_to, estop.
_LEADER_COLOURS = (_IDLE, (0.15, 0.55, 0.95), (0.95, 0.60, 0.10), (0.60, 0.40, 0.85), (0.90, 0.10, 0.10))

# rviz has no capsules.
_SHAPES: dict[Shape, int] = {
    "box": Marker.CUBE,
    "cylinder": Marker.CYLINDER,
    "capsule": Marker.CYLINDER,
    "sphere": Marker.SPHERE,
}


class SceneMarkers:
    """Builds the array that is published on `markers`."""

    def __init__(self, task: Task, frame: str) -> None:
        """Draw workspaces and objects of `task` in `frame`: the robot's base, or that in which several bases stand."""
        self._task = task
        self._frame = frame
        self._trails: dict[str, deque[Point]] = {arm: deque(maxlen=_TRAIL_POINTS) for arm in task.arm_names}

    def clear_trail(self) -> None:
        """Forget where the tools were."""
        for trail in self._trails.values():
            trail.clear()

    def build(
        self, objects: Mapping[str, Pose], targets: Mapping[str, Pose], modes: Mapping[str, int], stamp: Time
    ) -> MarkerArray:
        """Markers of one moment.

        Args:
            objects: true poses of the tools and of the objects.
            targets: poses that are commanded, by arm, in the frame of its base.
            modes: who leads, by arm, as in SafetyStatus.mode.
            stamp: of the moment.
        """
        markers = []
        for index, (arm, trail) in enumerate(self._trails.items()):
            mode = modes[arm]
            colour = _LEADER_COLOURS[mode] if mode < len(_LEADER_COLOURS) else _IDLE
            trail.append(_point(objects[tool_name(arm)]))
            own = [self._workspace(arm), self._line("trail", list(trail), 0.004, (*colour, 0.9))]
            if arm in targets:
                arrow = self._marker("target", Marker.SPHERE, self._task.in_world(arm, targets[arm]), (*colour, 0.6))
                arrow.scale.x = arrow.scale.y = arrow.scale.z = 0.02
                own.append(arrow)
            for marker in own:
                marker.id = index
            markers += own
        for name, item in self._task.objects.items():
            for index, (frame, solid) in enumerate(zip(item.frames(name), item.solids, strict=True)):
                colour = item.colour if solid.colour is None else solid.colour
                pose = objects[frame].compose(solid.pose)
                shape = self._marker(name, _SHAPES[solid.shape], pose, (*colour, 1.0))
                shape.id = index
                shape.scale.x, shape.scale.y, shape.scale.z = (2.0 * half for half in solid.half_extents)
                markers.append(shape)
        for marker in markers:
            marker.header.stamp = stamp
        return MarkerArray(markers=markers)

    def _workspace(self, arm: str) -> Marker:
        low, high = self._task.limits.workspace_min, self._task.limits.workspace_max
        corners = [[(low, high)[(index >> axis) & 1][axis] for axis in range(3)] for index in range(8)]
        edges = [(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit]
        placed = [_point(self._task.in_world(arm, Pose(corner, (0.0, 0.0, 0.0, 1.0)))) for corner in corners]
        points = [placed[i] for edge in edges for i in edge]
        return self._line("workspace", points, 0.002, (0.2, 0.7, 0.3, 0.8), Marker.LINE_LIST)

    def _line(
        self,
        name: str,
        points: list[Point],
        width: float,
        colour: tuple[float, float, float, float],
        kind: int = Marker.LINE_STRIP,
    ) -> Marker:
        marker = self._marker(name, kind, Pose.identity(), colour)
        marker.scale.x = width
        marker.points = points
        return marker

    def _marker(self, name: str, kind: int, pose: Pose, colour: tuple[float, float, float, float]) -> Marker:
        marker = Marker(ns=name, type=kind, action=Marker.ADD)
        marker.header.frame_id = self._frame
        marker.pose.position = _point(pose)
        orientation = marker.pose.orientation
        orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()
        red, green, blue, alpha = colour
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=alpha)
        return marker


def _point(pose: Pose) -> Point:
    x, y, z = pose.position.tolist()
    return Point(x=x, y=y, z=z)
