# SPDX-License-Identifier: Apache-2.0
"""Rigid poses: position [m] and unit quaternion, xyzw.

Rotations multiply from the left: `T_a_c = T_a_b.compose(T_b_c)`. A rotation vector is axis times angle [rad].
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

_UNIT_TOLERANCE: Final = 1e-3


class PoseError(ValueError):
    """Numbers that are no pose."""


class Pose:
    """Immutable pose; `position` float64[3] [m], `quaternion` float64[4] xyzw, unit length."""

    __slots__ = ("position", "quaternion")
    position: NDArray[np.float64]
    quaternion: NDArray[np.float64]

    def __init__(self, position: ArrayLike, quaternion: ArrayLike = (0.0, 0.0, 0.0, 1.0)) -> None:
        """Normalizes the quaternion.

        Raises:
            PoseError: a wrong number of values, one that is not finite, or a quaternion that is not of unit length
                within 0.001.
        """
        xyz = np.array(position, dtype=np.float64)
        xyzw = np.array(quaternion, dtype=np.float64)
        if xyz.shape != (3,) or xyzw.shape != (4,):
            raise PoseError(f"expected 3 numbers and 4 numbers (xyzw), found shapes {xyz.shape} and {xyzw.shape}")
        x, y, z, w = xyzw.tolist()
        norm = math.sqrt(x * x + y * y + z * z + w * w)
        if not (math.isfinite(sum(xyz.tolist())) and abs(norm - 1.0) <= _UNIT_TOLERANCE):
            raise PoseError(
                f"expected finite numbers and a unit quaternion, found position {xyz.tolist()}, "
                f"quaternion xyzw {xyzw.tolist()} of length {norm:g}"
            )
        if norm != 1.0:
            xyzw /= norm
        self._set(xyz, xyzw)

    @classmethod
    def trusted(cls, position: Vector3, quaternion: Quaternion) -> "Pose":
        """Without checks, for numbers that were computed from checked ones (hot path)."""
        pose = cls.__new__(cls)
        pose._set(np.array(position), np.array(quaternion))
        return pose

    def _set(self, position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> None:
        position.flags.writeable = False
        quaternion.flags.writeable = False
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "quaternion", quaternion)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Pose does not change; make a new one instead of setting {name!r}")

    def __reduce__(self) -> tuple[type["Pose"], tuple[list[float], list[float]]]:
        return Pose, (self.position.tolist(), self.quaternion.tolist())

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same, bit for bit; computed poses are compared by `distance` and `angle`."""
        if not isinstance(other, Pose):
            return NotImplemented
        return np.array_equal(self.position, other.position) and np.array_equal(self.quaternion, other.quaternion)

    def __hash__(self) -> int:
        return hash((*self.position.tolist(), *self.quaternion.tolist()))

    def __repr__(self) -> str:
        return f"Pose({self.position.tolist()}, {self.quaternion.tolist()})"

    @classmethod
    def identity(cls) -> "Pose":
        """No translation, no rotation."""
        return cls((0.0, 0.0, 0.0))

    @classmethod
    def from_rotation_vector(cls, position: ArrayLike, rotation_vector: ArrayLike) -> "Pose":
        """The pose with this position float64[3] [m] and rotation vector float64[3] [rad]."""
        rx, ry, rz = np.asarray(rotation_vector, dtype=np.float64).tolist()
        return cls(position, quaternion_exp((rx, ry, rz)))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> "Pose":
        """The pose of a homogeneous matrix, float64[4, 4].

        Raises:
            PoseError: the matrix is none, or its rotation is not orthonormal within 1e-6.
        """
        m = np.asarray(matrix, dtype=np.float64)
        if m.shape != (4, 4) or not np.allclose(m[:3, :3] @ m[:3, :3].T, np.eye(3), atol=1e-6):
            raise PoseError(f"expected a 4x4 matrix with an orthonormal rotation, found {m.tolist()}")
        if np.linalg.det(m[:3, :3]) < 0.0 or not np.allclose(m[3], (0.0, 0.0, 0.0, 1.0)):
            raise PoseError(f"expected a right-handed rotation and a last row of 0 0 0 1, found {m.tolist()}")
        return cls(m[:3, 3], quaternion_from_matrix(m[:3, :3]))

    def matrix(self) -> NDArray[np.float64]:
        """Homogeneous matrix of the pose, float64[4, 4]."""
        m = np.eye(4)
        m[:3, :3] = self.rotation_matrix()
        m[:3, 3] = self.position
        return m

    def rotation_matrix(self) -> NDArray[np.float64]:
        """Matrix of the rotation, float64[3, 3]."""
        x, y, z, w = self.quaternion.tolist()
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    def rotate(self, vector: ArrayLike) -> NDArray[np.float64]:
        """A free vector, float64[3], given in this pose's frame, in the frame this pose is given in."""
        return self.rotation_matrix() @ np.asarray(vector, dtype=np.float64)

    def transform(self, point: ArrayLike) -> NDArray[np.float64]:
        """A point, float64[3] [m], given in this pose's frame, in the frame this pose is given in."""
        return self.rotate(point) + self.position

    def compose(self, other: "Pose") -> "Pose":
        """`T_a_b.compose(T_b_c)` is `T_a_c`."""
        return Pose(self.transform(other.position), quaternion_multiply(_quaternion(self), _quaternion(other)))

    def inverse(self) -> "Pose":
        """`T_a_b.inverse()` is `T_b_a`."""
        x, y, z, w = self.quaternion.tolist()
        conjugate = Pose((0.0, 0.0, 0.0), (-x, -y, -z, w))
        return Pose(-conjugate.rotate(self.position), conjugate.quaternion)

    def distance(self, other: "Pose") -> float:
        """Distance between the two positions [m]."""
        return math.dist(self.position.tolist(), other.position.tolist())

    def angle(self, other: "Pose") -> float:
        """Smallest rotation angle between the two orientations [rad], in [0, pi]."""
        return math.hypot(*_rotation_between(self, other))

    def position_to(self, other: "Pose") -> NDArray[np.float64]:
        """Translation float64[3] [m], in the common frame, from this position to the other."""
        return other.position - self.position

    def rotation_vector_to(self, other: "Pose") -> NDArray[np.float64]:
        """Rotation vector float64[3] [rad], in the common frame, that turns this orientation into the other."""
        return np.array(_rotation_between(self, other))


def scaled(vector: Vector3, factor: float) -> Vector3:
    """The vector times a number."""
    x, y, z = vector
    return x * factor, y * factor, z * factor


def between(a: Vector3, b: Vector3, share: float) -> Vector3:
    """The point at this share of the way from `a` to `b`."""
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2])


def quaternion_multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Hamilton product of two xyzw quaternions: the rotation b followed by a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def quaternion_rotate(quaternion: Quaternion, vector: Vector3) -> Vector3:
    """The vector turned by a unit quaternion: v + 2 w (q x v) + 2 q x (q x v)."""
    x, y, z, w = quaternion
    a, b, c = vector
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return a + w * tx + y * tz - z * ty, b + w * ty + z * tx - x * tz, c + w * tz + x * ty - y * tx


def quaternion_exp(rotation_vector: Vector3) -> Quaternion:
    """Unit quaternion of a rotation vector [rad]."""
    x, y, z = rotation_vector
    angle = math.sqrt(x * x + y * y + z * z)
    # sin(angle / 2) / angle has the limit 1/2; below 1e-6 the next term is under double precision
    factor = 0.5 if angle < 1e-6 else math.sin(0.5 * angle) / angle
    return x * factor, y * factor, z * factor, math.cos(0.5 * angle)


def quaternion_log(quaternion: Quaternion) -> Vector3:
    """Shortest rotation vector [rad] of a unit quaternion; its length is in [0, pi]."""
    x, y, z, w = quaternion
    sine = math.sqrt(x * x + y * y + z * z)
    if w < 0.0:  # q and -q are the same rotation; this one is the short way round
        x, y, z, w = -x, -y, -z, -w
    factor = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, w) / sine
    return x * factor, y * factor, z * factor


def quaternion_from_matrix(rotation: NDArray[np.float64]) -> Quaternion:
    """Unit quaternion of a rotation matrix, float64[3, 3], by the largest of the four components (Shepperd 1978)."""
    m = rotation.tolist()
    trace = m[0][0] + m[1][1] + m[2][2]
    diagonal = (m[0][0], m[1][1], m[2][2])
    if trace >= max(diagonal):
        s = 2.0 * math.sqrt(1.0 + trace)
        q = [(m[2][1] - m[1][2]) / s, (m[0][2] - m[2][0]) / s, (m[1][0] - m[0][1]) / s, 0.25 * s]
    else:
        i = diagonal.index(max(diagonal))
        j, k = (i + 1) % 3, (i + 2) % 3
        s = 2.0 * math.sqrt(1.0 + m[i][i] - m[j][j] - m[k][k])
        q = [0.0, 0.0, 0.0, (m[k][j] - m[j][k]) / s]
        q[i], q[j], q[k] = 0.25 * s, (m[j][i] + m[i][j]) / s, (m[k][i] + m[i][k]) / s
    return q[0], q[1], q[2], q[3]


def _quaternion(pose: Pose) -> Quaternion:
    x, y, z, w = pose.quaternion.tolist()
    return x, y, z, w


def _rotation_between(start: Pose, end: Pose) -> Vector3:
    x, y, z, w = start.quaternion.tolist()
    return quaternion_log(quaternion_multiply(_quaternion(end), (-x, -y, -z, w)))


def angle_between(a: Quaternion, b: Quaternion) -> float:
    """Rotation angle between two orientations [rad], exact for small ones."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    dot = ax * bx + ay * by + az * bz + aw * bw
    sign = 1.0 if dot >= 0.0 else -1.0
    # 2 atan2(|a - b|, |a + b|) for the nearer of b and -b gives the half angle (Kahan)
    minus = math.sqrt((ax - sign * bx) ** 2 + (ay - sign * by) ** 2 + (az - sign * bz) ** 2 + (aw - sign * bw) ** 2)
    plus = math.sqrt((ax + sign * bx) ** 2 + (ay + sign * by) ** 2 + (az + sign * bz) ** 2 + (aw + sign * bw) ** 2)
    return 4.0 * math.atan2(minus, plus)


def normalized(q: Quaternion) -> Quaternion:
    """The unit quaternion of a quaternion that is not zero."""
    x, y, z, w = q
    length = math.sqrt(x * x + y * y + z * z + w * w)
    return x / length, y / length, z / length, w / length
