# SPDX-License-Identifier: Apache-2.0
"""An arm as a MuJoCo model of its frames and collision shapes, for planning: no dynamics, no world."""

from collections.abc import Sequence
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

Vector = NDArray[np.float64]

_LINKED: Final = 1  # groups of shapes with one joint between them always touch
_AROUND: Final = -1


class ArmShapes:
    """Tool pose, its Jacobian, and distances between the shapes, for one configuration at a time. Not thread-safe.

    Shapes are in groups: -1 is what is around the arm, 0 is what does not move, i moves with joint i and no later one.
    The gripper's joints stand where it is open widest, and its shapes are in the group of the last joint.

    Attributes:
        model: compiled, with the collision shapes alone; the geom of a visual shape is not in it.
        group: of each geom, int (ngeom,).
    """

    def __init__(self, robot: RobotModel, spec: mujoco.MjSpec | None = None, around: Sequence[str] = ()) -> None:
        """Compile the robot's description, or a `spec` that was made of it and has more shapes, named in `around`.

        Raises:
            ValueError: MuJoCo refuses the description.
        """
        spec = mujoco.MjSpec.from_string(robot.urdf_xml()) if spec is None else spec
        for geom in [*spec.geoms]:
            if geom.contype == 0 and geom.conaffinity == 0:  # only there to be seen
                spec.delete(geom)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(name).id for name in robot.arm_joints]
        self._qpos = self.model.jnt_qposadr[joints]
        self._dofs = self.model.jnt_dofadr[joints]
        self._tcp = int(self.model.body(robot.tcp_frame).id)
        opening = robot.gripper.position(robot.gripper.max_width)
        for name in robot.gripper.joints:
            self.data.qpos[self.model.joint(name).qposadr] = opening
        body_group = _groups(self.model, joints)
        self.group = body_group[self.model.geom_bodyid]
        self.group[[self.model.geom(name).id for name in around]] = _AROUND
        self._jacobian = np.zeros((6, self.model.nv))
        self._linear = np.zeros((2, 3, self.model.nv))
        self._ends = np.zeros(6)
        self._radii = self.model.geom_rbound.copy()
        self.place(robot.configuration("home"))
        base = int(self.model.body(robot.base_frame).id)
        w, x, y, z = self.data.xquat[base].tolist()
        self._base = Pose(self.data.xpos[base], (x, y, z, w))
        self._to_base = self._base.inverse()

    def place(self, positions: Sequence[float] | Vector) -> None:
        """Put the arm's joints (n,) [rad] there."""
        self.data.qpos[self._qpos] = positions
        mujoco.mj_kinematics(self.model, self.data)

    def tcp(self) -> Pose:
        """Pose of the tool in the frame of the model's world."""
        w, x, y, z = self.data.xquat[self._tcp].tolist()
        return Pose(self.data.xpos[self._tcp], (x, y, z, w))

    def in_world(self, pose: Pose) -> Pose:
        """A pose of the base frame in that of the model's world."""
        return self._base.compose(pose)

    def in_base(self, pose: Pose) -> Pose:
        """A pose of the model's world in the base frame."""
        return self._to_base.compose(pose)

    def called(self, geom: int) -> str:
        """Name of a shape for people: its own, or that of its link."""
        return str(self.model.geom(geom).name or self.model.body(self.model.geom_bodyid[geom]).name)

    def jacobian(self) -> NDArray[np.float64]:
        """Velocity of the tool for that of each joint: linear above angular, world frame, float64 (6, n)."""
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jacBody(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self._tcp)
        return self._jacobian[:, self._dofs]

    def pairs(self, configurations: Sequence[Sequence[float]], distance: float) -> NDArray[np.intp]:
        """Pairs of the arm's shapes, int (p, 2), whose distance says something.

        Left out are shapes with one joint or none between them, and those of two links that are nearer than `distance`
        [m] in one of the `configurations`, which are known to be free: shapes are drawn wider than the links are.
        """
        first, second = np.triu_indices(self.model.ngeom, k=1)
        apart = np.abs(self.group[first] - self.group[second]) > _LINKED
        found = np.column_stack([first[apart], second[apart]])
        for configuration in configurations:
            self.place(configuration)
            near = {(a, b) for _, a, b, _, _ in self.near(found, distance) if self.group[[a, b]].min() > _AROUND}
            found = np.array([pair for pair in found.tolist() if tuple(pair) not in near], dtype=np.intp).reshape(-1, 2)
        return found

    def any_nearer(self, pairs: NDArray[np.intp], distances: Vector) -> bool:
        """Whether two shapes of a pair are nearer than the distance (p,) [m] of that pair, where the arm is."""
        for index in self._candidates(pairs, distances).tolist():
            a, b = pairs[index].tolist()
            least = float(distances[index])
            if mujoco.mj_geomDistance(self.model, self.data, a, b, least, None) < least:
                return True
        return False

    def _candidates(self, pairs: NDArray[np.intp], distance: float | Vector) -> NDArray[np.intp]:
        """Indices of those pairs whose spheres are nearer than the distance [m]."""
        first, second = pairs[:, 0], pairs[:, 1]
        offset = self.data.geom_xpos[first] - self.data.geom_xpos[second]
        reach = self._radii[first] + self._radii[second] + distance
        return np.flatnonzero(np.einsum("ij,ij->i", offset, offset) < reach * reach)

    def near(
        self, pairs: NDArray[np.intp], distance: float
    ) -> list[tuple[float, int, int, NDArray[np.float64], NDArray[np.float64]]]:
        """Those of the pairs that are nearer than `distance` [m] where the arm is.

        Of each: signed distance [m], the two geoms, and the nearest points (3,) of these [m].
        """
        data, model = self.data, self.model
        candidates = self._candidates(pairs, distance)
        found = []
        for a, b in pairs[candidates].tolist():
            gap = mujoco.mj_geomDistance(model, data, a, b, distance, self._ends)
            if gap < distance:
                found.append((gap, a, b, self._ends[:3].copy(), self._ends[3:].copy()))
        return found

    def approach(self, a: int, b: int, at_a: Vector, at_b: Vector, gap: float) -> Vector:
        """How much the distance of two geoms grows with each joint, float64 (n,) [m/rad].

        Needs `jacobian` to have been asked for at this configuration. Arguments are those of `near`.
        """
        between = at_b - at_a if abs(gap) > 1e-9 else self.data.geom_xpos[b] - self.data.geom_xpos[a]
        length = gap if abs(gap) > 1e-9 else max(float(np.linalg.norm(between)), 1e-9)
        for row, (geom, point) in enumerate(((a, at_a), (b, at_b))):
            mujoco.mj_jac(self.model, self.data, self._linear[row], None, point, self.model.geom_bodyid[geom])
        growth: Vector = (between / length) @ (self._linear[1] - self._linear[0])[:, self._dofs]
        return growth


def _groups(model: mujoco.MjModel, joints: Sequence[int]) -> NDArray[np.intp]:
    """How many of the arm's joints are between each body and the world, int (nbody,)."""
    number = {joint: index + 1 for index, joint in enumerate(joints)}
    group = np.zeros(model.nbody, dtype=np.intp)
    for body in range(1, model.nbody):
        group[body] = group[model.body_parentid[body]]
        first = int(model.body_jntadr[body])
        for joint in range(first, first + int(model.body_jntnum[body])):
            group[body] = max(group[body], number.get(joint, 0))
    return group
