# SPDX-License-Identifier: Apache-2.0
"""Two tasks that undo each other, so that a robot may do them by turns without anybody who resets its world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from serl_robots.model.pose import Pose

from serl_tasks.task import Task

_ENVIRONMENT = "gym"  # the kind whose world is a Gymnasium environment, which resets itself as it likes
_SHARED = (
    "robot",
    "world",
    "control_period",
    "frame",
    "action",
    "limits",
    "start",
    "state",
    "cameras",
    "errors",
    "learning",
)  # of a task's file; the rest is what one wants and the other undoes
_OF_THE_START = frozenset({"lower", "upper", "height", "yaw_deg"})  # of an object


class PairError(ValueError):
    """Two tasks that cannot take turns."""


def check_pair(first: Task, second: Task) -> None:
    """Refuse two tasks that cannot take turns in one world, with one arm.

    They may differ in what they want and in where their objects start, and in nothing that an arm controller, a camera
    or a simulator is told once and for all.

    Raises:
        PairError: says what differs, or why it cannot be.
    """
    names = f"{first.name} and {second.name}"
    if first.name == second.name:
        raise PairError(f"{first.name}: a task does not undo itself; name the one that does")
    if _ENVIRONMENT in (first.kind, second.kind):
        raise PairError(f"{names} cannot take turns: a Gymnasium environment cannot begin where another one has ended")
    for key in _SHARED:
        one, other = getattr(first, key), getattr(second, key)
        if one != other:
            raise PairError(f"{names} cannot take turns: expected the same {key}, found {one} and {other}")
    if first.start.beside is not None:
        raise PairError(
            f"{names} cannot take turns: start.beside: expected none, found {first.start.beside!r}, whose place only a "
            "simulator knows before the episode"
        )
    if (one_set := _solids(first)) != (other_set := _solids(second)):
        differing = sorted(name for name in one_set | other_set if one_set.get(name) != other_set.get(name))
        raise PairError(f"{names} cannot take turns: expected the same objects, found others: {', '.join(differing)}")


def farther(tasks: Sequence[Task], objects: Mapping[str, Pose]) -> Task:
    """The task that has farther to go, which is the one to do next; the first of several.

    Args:
        tasks: of a pair.
        objects: true poses of the tool and of all objects, base frame.
    """
    return max(tasks, key=lambda task: task.distance_to_goal(objects))


def out_of_reach(task: Task, objects: Mapping[str, Pose]) -> str:
    """Which free object lies where the tool cannot get above it, and where; empty if none does.

    Args:
        task: whose limits say where the tool may be.
        objects: true poses of all objects, base frame.
    """
    low, high = task.limits.workspace_min, task.limits.workspace_max
    for name, item in task.objects.items():
        if item.mount != "free":
            continue
        x, y, z = objects[name].position.tolist()
        if not (low[0] <= x <= high[0] and low[1] <= y <= high[1] and 0.0 <= z <= high[2] + item.rest_height):
            return f"{name} is out of reach, at ({x:.3f}, {y:.3f}, {z:.3f}) m"
    return ""


def _solids(task: Task) -> dict[str, dict[str, object]]:
    """What the objects of a task are, without where they start."""
    return {
        name: {key: value for key, value in asdict(item).items() if key not in _OF_THE_START}
        for name, item in task.objects.items()
    }
