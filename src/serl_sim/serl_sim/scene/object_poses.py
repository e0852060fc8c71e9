# SPDX-License-Identifier: Apache-2.0
"""Where the objects of a world are, and how they are put somewhere else."""

from collections.abc import Mapping

import mujoco
import numpy as np
from serl_robots.model.pose import Pose
from serl_tasks.objects.mounts import HingeMount, SlideMount
from serl_tasks.objects.scene_object import SceneObject

from serl_sim.scene.object_model import wxyz


class ObjectPoses:
    """Reads and writes poses of objects in the state of MuJoCo. Base frame, quaternions xyzw."""

    def __init__(self, model: mujoco.MjModel, objects: Mapping[str, SceneObject]) -> None:
        """Find the objects in the model that was built of them."""
        self._free: dict[str, int] = {}
        self._fixed: dict[str, int] = {}
        self._held: dict[str, Pose] = {}
        self._jointed: dict[str, tuple[SlideMount | HingeMount, int]] = {}
        for name, item in objects.items():
            if item.in_tool is not None:
                self._held[name] = item.in_tool.pose
            elif item.joint is not None:
                self._jointed[name] = item.joint, int(model.joint(name).qposadr[0])
            elif item.mount == "fixed":
                self._fixed[name] = int(model.body(name).mocapid[0])
            else:
                self._free[name] = int(model.joint(name).qposadr[0])
        self._objects = dict(objects)
        self._links = {
            name: [int(model.body(link).id) for link in item.frames(name)]
            for name, item in objects.items()
            if item.flexible is not None
        }
        self._held_bodies = {int(model.body(name).id) for name in self._held}
        self._held_bodies.update(body for links in self._links.values() for body in links)

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
                if name in self._links:
                    poses.update(self._points(data, name))
            elif name in self._jointed:
                mount, index = self._jointed[name]
                poses[name] = mount.pose(self._fixed_pose(data, mount.base), float(data.qpos[index]))
            elif name in self._fixed:
                poses[name] = self._fixed_pose(data, name)
            else:
                start = self._free[name]
                poses[name] = _pose(data.qpos[start : start + 7].tolist())
        return poses

    def _points(self, data: mujoco.MjData, name: str) -> dict[str, Pose]:
        """Poses of the points of a cable."""
        # After a step the frames of bodies are those of the last physics step but one.
        mujoco.mj_kinematics(data.model, data)
        item = self._objects[name]
        bodies = self._links[name][1:]
        frames = np.hstack([data.xpos[bodies], data.xquat[bodies]]).tolist()
        joints = [_pose(frame) for frame in frames]
        end = joints[-1].compose(Pose((0.0, 0.0, item.link_length)))
        return dict(zip(item.points(name), [*joints, end], strict=True))

    def _fixed_pose(self, data: mujoco.MjData, name: str) -> Pose:
        index = self._fixed[name]
        return _pose([*data.mocap_pos[index].tolist(), *data.mocap_quat[index].tolist()])


def _pose(values: list[float]) -> Pose:
    x, y, z, qw, qx, qy, qz = values
    return Pose.trusted((x, y, z), (qx, qy, qz, qw))
