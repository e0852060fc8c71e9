# SPDX-License-Identifier: Apache-2.0
"""The objects of a world as rviz shows them. What it shows of the arm is published by the arm controller."""

from __future__ import annotations

from collections.abc import Mapping

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from serl_robots.model.pose import Pose
from serl_tasks.objects.solid import Shape
from serl_tasks.task import Task
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

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
        """Draw the objects of `task` in `frame`, the robot's base frame."""
        self._task = task
        self._frame = frame

    def build(self, objects: Mapping[str, Pose], stamp: Time) -> MarkerArray:
        """Markers of one moment.

        Args:
            objects: true poses of the objects.
            stamp: of the moment.
        """
        markers = []
        for name, item in self._task.objects.items():
            for index, (frame, solid) in enumerate(zip(item.frames(name), item.solids, strict=True)):
                colour = item.colour if solid.colour is None else solid.colour
                pose = objects[frame].compose(solid.pose)
                shape = self._marker(name, _SHAPES[solid.shape], pose, (*colour, 1.0))
                shape.id = index
                shape.scale.x, shape.scale.y, shape.scale.z = (2.0 * half for half in solid.half_extents)
                shape.header.stamp = stamp
                markers.append(shape)
        return MarkerArray(markers=markers)

    def _marker(self, name: str, kind: int, pose: Pose, colour: tuple[float, float, float, float]) -> Marker:
        marker = Marker(ns=name, type=kind, action=Marker.ADD)
        marker.header.frame_id = self._frame
        x, y, z = pose.position.tolist()
        marker.pose.position = Point(x=x, y=y, z=z)
        orientation = marker.pose.orientation
        orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()
        red, green, blue, alpha = colour
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=alpha)
        return marker
