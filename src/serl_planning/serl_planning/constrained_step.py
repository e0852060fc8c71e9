# SPDX-License-Identifier: Apache-2.0
"""The joint step nearest to a desired one among those that linear limits allow: a small quadratic program."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

_NONE: Final = 1e-9  # residual of the dual problem at which the limits contradict each other

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class Infeasible(ValueError):
    """No step is within all limits."""


def nearest_within(factor: Matrix, desired: Vector, rows: Matrix, most: Vector) -> Vector:
    """The step x (n,) that minimizes (x - desired)' L L' (x - desired) where rows x <= most.

    Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23: in the coordinates z = L' (x - desired) it is
    the point nearest to the origin, which the residual of a non-negative least-squares problem gives.

    Args:
        factor: lower triangular L (n, n) of a Cholesky factorization, which is the metric.
        desired: step (n,) that is wanted.
        rows: a limit in each row (m, n).
        most: largest value (m,) of each.

    Raises:
        Infeasible: the limits contradict each other.
    """
    slack = most - rows @ desired
    if (slack >= 0.0).all():
        return desired
    rotated = solve_triangular(factor, rows.T, lower=True, check_finite=False)  # (n, m)
    scale = np.maximum(np.sqrt((rotated * rotated).sum(axis=0)), 1e-300)  # limits of length one: better conditioned
    rotated /= scale
    distance = slack / scale
    unit = max(float(-distance.min()), 1e-300)  # the farthest limit: what the answer is as long as
    system = np.vstack([-rotated, -distance / unit])
    goal = np.zeros(len(system))
    goal[-1] = 1.0
    multipliers, norm = nnls(system, goal)
    if norm < _NONE:
        raise Infeasible(f"no step is within all {len(most)} limits")
    residual = system @ multipliers - goal
    z = residual[:-1] * (-unit / residual[-1])
    return desired + solve_triangular(factor, z, lower=True, trans="T", check_finite=False)
