# SPDX-License-Identifier: Apache-2.0
"""Where the objects of a world are, and how they are put somewhere else."""

from collections.abc import Mapping

import mujoco
from serl_robots.model.pose import Pose
from serl_tasks.objects.scene_object import SceneObject, SlideMount

from serl_sim.scene.object_model import wxyz


class ObjectPoses:
    """Reads and writes poses of objects in the state of MuJoCo. Base frame, quaternions xyzw."""

    def __init__(self, model: mujoco.MjModel, objects: Mapping[str, SceneObject]) -> None:
        """Find the objects in the model that was built of them."""
        self._free: dict[str, int] = {}
        self._fixed: dict[str, int] = {}
        self._held: dict[str, Pose] = {}
        self._sliding: dict[str, tuple[SlideMount, int]] = {}
        for name, item in objects.items():
            if item.in_tool is not None:
                self._held[name] = item.in_tool.pose
            elif item.slide is not None:
                self._sliding[name] = item.slide, int(model.joint(name).qposadr[0])
            elif item.mount == "fixed":
                self._fixed[name] = int(model.body(name).mocapid[0])
            else:
                self._free[name] = int(model.joint(name).qposadr[0])
        self._objects = dict(objects)
        self._held_bodies = {int(model.body(name).id) for name in self._held}

    def is_held(self, body: int) -> bool:
        """Whether a body of the model is an object that is held."""
        return body in self._held_bodies

    @property
    def movable(self) -> tuple[str, ...]:
        """Names of those that can be put somewhere: those that are free or fixed."""
        return tuple(name for name, item in self._objects.items() if item.has_place)

    def place(self, data: mujoco.MjData, poses: Mapping[str, Pose]) -> None:
        """Put objects somewhere, at rest, in a state where those that are free have come to rest.

        An object that stands on something keeps the height at which it came to rest there, which is a little less than
        that of its shape.
        """
        for name, pose in poses.items():
            if name in self._fixed:
                data.mocap_pos[self._fixed[name]] = pose.position
                data.mocap_quat[self._fixed[name]] = wxyz(pose)
                continue
            start, item = self._free[name], self._objects[name]
            data.qpos[start : start + 2] = pose.position[:2]
            if item.height is None:
                data.qpos[start + 2] += pose.position[2] - item.rest_height
            else:
                data.qpos[start + 2] = pose.position[2]
            data.qpos[start + 3 : start + 7] = wxyz(pose)

    def read(self, data: mujoco.MjData, tool: Pose) -> dict[str, Pose]:
        """Poses of all objects, in the order of the task.

        Args:
            data: state of the world.
            tool: its pose.
        """
        poses = {}
        for name in self._objects:
            if name in self._held:
                poses[name] = tool.compose(self._held[name])
            elif name in self._sliding:
                slide, index = self._sliding[name]
                poses[name] = slide.pose(self._fixed_pose(data, slide.base), float(data.qpos[index]))
            elif name in self._fixed:
                poses[name] = self._fixed_pose(data, name)
            else:
                start = self._free[name]
                poses[name] = _pose(data.qpos[start : start + 7].tolist())
        return poses

    def _fixed_pose(self, data: mujoco.MjData, name: str) -> Pose:
        index = self._fixed[name]
        return _pose([*data.mocap_pos[index].tolist(), *data.mocap_quat[index].tolist()])


def _pose(values: list[float]) -> Pose:
    x, y, z, qw, qx, qy, qz = values
    return Pose.trusted((x, y, z), (qx, qy, qz, qw))
