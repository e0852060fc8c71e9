# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from serl_planning.constrained_step import Infeasible, nearest_within


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 7), limits=st.integers(0, 12))
def test_it_is_what_sequential_quadratic_programming_finds(seed, count, limits):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, count)) + 2.0 * np.eye(count)
    metric = root.T @ root + 1e-3 * np.eye(count)
    desired, inside = rng.normal(size=count), rng.normal(size=count)
    rows = rng.normal(size=(limits, count))
    most = rows @ inside + rng.uniform(0.0, 0.5, limits)  # `inside` is allowed, so there is an answer
    found = nearest_within(np.linalg.cholesky(metric), desired, rows, most)
    assert (rows @ found <= most + 1e-8).all()

    def cost(x):
        return (x - desired) @ metric @ (x - desired)

    other = minimize(
        cost,
        inside,
        jac=lambda x: 2.0 * metric @ (x - desired),
        constraints={"type": "ineq", "fun": lambda x: most - rows @ x, "jac": lambda _: -rows} if limits else (),
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert cost(found) <= cost(other.x) + 1e-6
    if other.success:
        np.testing.assert_allclose(found, other.x, atol=1e-4)


@given(seed=st.integers(0, 2**32 - 1))
def test_limits_that_contradict_each_other_are_named(seed):
    rng = np.random.default_rng(seed)
    row = rng.normal(size=7)
    with pytest.raises(Infeasible, match="no step is within all 2 limits"):
        nearest_within(np.eye(7), rng.normal(size=7), np.array([row, -row]), np.array([-0.1, -0.1]))


def test_a_step_that_is_allowed_is_taken_as_it_is():
    desired = np.array([0.1, -0.2])
    assert nearest_within(np.eye(2), desired, np.eye(2), np.array([0.1, 0.0])) is desired
