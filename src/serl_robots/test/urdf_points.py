# SPDX-License-Identifier: Apache-2.0
"""Points on the collision shapes of an arm, by its URDF alone: no MuJoCo, no kinematics of this workspace."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation
from serl_robots.model.robot import RobotModel


class UrdfPoints:
    """Samples the surface of every shape of the links that can move."""

    def __init__(self, robot: RobotModel, count: int, seed: int = 0) -> None:
        self._root = ElementTree.fromstring(robot.urdf_xml())
        self._joints = {joint.find("child").get("link"): joint for joint in self._root.findall("joint")}
        self._base = robot.base_frame
        rng = np.random.default_rng(seed)
        self._points = {
            link.get("name"): np.concatenate(
                [
                    _surface(each.find("geometry")[0], count, rng) @ _pose(each)[:3, :3].T + _pose(each)[:3, 3]
                    for each in link.findall("collision")
                ]
            )
            for link in self._root.findall("link")
            if link.find("collision") is not None
        }

    def at(self, positions: Mapping[str, float]) -> np.ndarray:
        """Points (p, 3) in the frame of the base [m] for positions of the joints by their names; others stand at 0."""
        to_base = np.linalg.inv(self._frame(self._base, positions)[0])
        found = []
        for link, points in self._points.items():
            pose, moves = self._frame(link, positions)
            if moves:
                pose = to_base @ pose
                found.append(points @ pose[:3, :3].T + pose[:3, 3])
        return np.concatenate(found)

    def _frame(self, link: str, positions: Mapping[str, float]) -> tuple[np.ndarray, bool]:
        """Pose of a link in that of the root, and whether one of the given joints moves it."""
        joint = self._joints.get(link)
        if joint is None:
            return np.eye(4), False
        pose, moves = self._frame(joint.find("parent").get("link"), positions)
        name, own = joint.get("name"), np.eye(4)
        mimic = joint.find("mimic")
        value = positions.get(name if mimic is None else mimic.get("joint"), 0.0)
        if joint.get("type") != "fixed":
            axis = _numbers(joint.find("axis").get("xyz"))
            if joint.get("type") == "prismatic":
                own[:3, 3] = value * axis
            else:
                own[:3, :3] = Rotation.from_rotvec(value * axis).as_matrix()
        return pose @ _pose(joint) @ own, moves or name in positions


def outside(points: np.ndarray, box: np.ndarray) -> float:
    """Distance of the nearest of the points (p, 3) from a box of six numbers [m]; 0: one is inside."""
    beyond = np.maximum(box[:3] - points, points - box[3:]).clip(0.0)
    return float(np.linalg.norm(beyond, axis=1).min())


def _numbers(text: str | None) -> np.ndarray:
    return np.array([float(number) for number in (text or "0 0 0").split()])


def _pose(element: ElementTree.Element) -> np.ndarray:
    origin, pose = element.find("origin"), np.eye(4)
    if origin is not None:
        pose[:3, 3] = _numbers(origin.get("xyz"))
        pose[:3, :3] = Rotation.from_euler("xyz", _numbers(origin.get("rpy"))).as_matrix()
    return pose


def _surface(shape: ElementTree.Element, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 3) of a shape's surface in its own frame [m], edges and corners among them."""
    if shape.tag == "sphere":
        points = rng.normal(size=(count, 3))
        return float(shape.get("radius", "")) * points / np.linalg.norm(points, axis=1, keepdims=True)
    points = rng.uniform(-1.0, 1.0, (count, 3))
    if shape.tag == "cylinder":
        turn, rim = rng.uniform(0.0, 2.0 * np.pi, count), rng.random(count) < 0.7
        out = np.where(rim, 1.0, np.sqrt(rng.random(count)))
        along = np.where(rim, points[:, 2].round(1).clip(-1.0, 1.0), np.sign(points[:, 2]))
        radius, half = float(shape.get("radius", "")), 0.5 * float(shape.get("length", ""))
        return np.column_stack([radius * out * np.cos(turn), radius * out * np.sin(turn), half * along])
    assert shape.tag == "box"
    far = np.abs(points).argmax(axis=1)
    points[np.arange(count), far] = np.sign(points[np.arange(count), far])
    points[: count // 4] = np.sign(points[: count // 4])
    return 0.5 * _numbers(shape.get("size")) * points
