# SPDX-License-Identifier: Apache-2.0
import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from serl_robots.model.pose import Pose, PoseError, quaternion_exp, quaternion_log

numbers = st.floats(-3.0, 3.0)
vectors = st.tuples(numbers, numbers, numbers)


@st.composite
def poses(draw: st.DrawFn) -> Pose:
    return Pose(draw(vectors), Rotation.from_rotvec(draw(vectors)).as_quat())


def same(a: Pose, b: Pose) -> bool:
    return a.distance(b) < 1e-12 * 100 and a.angle(b) < 1e-12 * 100


@given(poses(), poses(), poses())
def test_composition_is_associative(a: Pose, b: Pose, c: Pose) -> None:
    assert same(a.compose(b).compose(c), a.compose(b.compose(c)))


@given(poses())
def test_a_pose_and_its_inverse_make_the_identity(a: Pose) -> None:
    assert same(a.compose(a.inverse()), Pose.identity())
    assert same(a.inverse().compose(a), Pose.identity())


@given(poses(), poses())
def test_matrices_multiply_as_poses_compose(a: Pose, b: Pose) -> None:
    assert np.allclose(a.compose(b).matrix(), a.matrix() @ b.matrix(), atol=1e-12)


@given(poses())
def test_matrix_and_rotation_agree_with_scipy_and_come_back(a: Pose) -> None:
    assert np.allclose(a.rotation_matrix(), Rotation.from_quat(a.quaternion).as_matrix(), atol=1e-12)
    assert same(Pose.from_matrix(a.matrix()), a)


@given(poses(), vectors)
def test_points_are_transformed_as_by_the_matrix(a: Pose, point: tuple[float, float, float]) -> None:
    assert np.allclose(a.transform(point), (a.matrix() @ [*point, 1.0])[:3], atol=1e-12)


@given(vectors)
def test_rotation_vectors_come_back_by_the_short_way(vector: tuple[float, float, float]) -> None:
    found = quaternion_log(quaternion_exp(vector))
    assert math.hypot(*found) <= math.pi + 1e-12
    assert (
        np.allclose(found, Rotation.from_rotvec(vector).as_rotvec(), atol=1e-9) or math.pi - math.hypot(*found) < 1e-6
    )


@pytest.mark.parametrize("angle", [0.0, 5e-324, 1e-300, 1e-12, 1e-9, 1e-7, 1e-3])
def test_small_rotations_keep_their_precision(angle: float) -> None:
    assert quaternion_log(quaternion_exp((angle, 0.0, 0.0)))[0] == pytest.approx(angle, rel=1e-12, abs=1e-300)


@given(poses(), poses())
def test_the_rotation_vector_between_two_poses_turns_one_into_the_other(a: Pose, b: Pose) -> None:
    turned = Pose.from_rotation_vector((0.0, 0.0, 0.0), a.rotation_vector_to(b)).compose(a)
    assert turned.angle(b) < 1e-9
    assert a.angle(b) == pytest.approx(np.linalg.norm(a.rotation_vector_to(b)))


@pytest.mark.parametrize(
    ("position", "quaternion"),
    [
        ((0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.1)),
        ((math.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0)),
        ((math.inf, -math.inf, 0.0), (0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_numbers_that_are_no_pose_are_refused(position: tuple[float, ...], quaternion: tuple[float, ...]) -> None:
    with pytest.raises(PoseError, match="expected"):
        Pose(position, quaternion)


def test_a_matrix_that_is_no_pose_is_refused() -> None:
    for matrix in (np.eye(3), np.diag([1.0, 1.0, -1.0, 1.0]), np.diag([2.0, 1.0, 1.0, 1.0])):
        with pytest.raises(PoseError):
            Pose.from_matrix(matrix)


def test_a_nearly_unit_quaternion_is_normalized() -> None:
    assert np.linalg.norm(Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0005)).quaternion) == 1.0


def test_a_pose_does_not_change() -> None:
    pose = Pose.identity()
    with pytest.raises(ValueError, match="read-only"):
        pose.position[0] = 1.0
    with pytest.raises(AttributeError):
        pose.position = np.zeros(3)
    source = np.zeros(3)
    pose = Pose(source)
    source[0] = 1.0
    assert pose.position[0] == 0.0
    assert copy.deepcopy(pose) == pose and hash(copy.copy(pose)) == hash(pose)
