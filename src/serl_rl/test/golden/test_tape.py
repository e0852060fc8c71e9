# SPDX-License-Identifier: Apache-2.0
"""Every operation of the tape against central differences, and the gradient of a gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from . import tape
from .tape import Value, gradients

Function = Callable[[Value, Value], Value]

OPERATIONS: dict[str, Function] = {
    "add": lambda x, y: x + y,
    "add a row": lambda x, y: x + y[0],
    "subtract": lambda x, y: 1.0 - x - y,
    "multiply": lambda x, y: x * y,
    "multiply by a column": lambda x, y: x * y[:, :1],
    "divide": lambda x, y: x / (y * y + 1.0),
    "power": lambda x, y: (x * x + 1.0) ** 0.5,
    "matmul": lambda x, y: x @ y.T,
    "rows that repeat": lambda x, y: x[np.array([0, 2, 0, 0])] * y[0],
    "reshape": lambda x, y: x.reshape(2, 6) @ y.reshape(6, 2),
    "sum": lambda x, y: x.sum(0) * x.sum(1)[0] * y.sum(),
    "mean": lambda x, y: x.mean(1) * y.mean((0, 1)),
    "min": lambda x, y: tape.stack([x, y]).min(0) * x,
    "clip": lambda x, y: x.clip(-0.5, 0.5) * y,
    "exp": lambda x, y: tape.exp(x) * y,
    "log": lambda x, y: tape.log(x * x + 1.0) * y,
    "tanh": lambda x, y: tape.tanh(x) * y,
    "relu": lambda x, y: tape.relu(x) * y,
    "sigmoid": lambda x, y: tape.sigmoid(x) * y,
    "log_cosh": lambda x, y: tape.log_cosh(x) * y,
    "softplus": lambda x, y: tape.softplus(x) * y,
    "concatenate": lambda x, y: tape.concatenate([x, y, x * y], 1) ** 2.0,
}


def value_of(function: Function, arrays: list[np.ndarray]) -> Value:
    """A scalar in which every element of the result counts differently."""
    result = function(*map(Value, arrays))
    return (result * np.cos(np.arange(result.array.size)).reshape(result.shape)).sum()


def central_differences(scalar: Callable[[list[np.ndarray]], float], arrays: list[np.ndarray]) -> list[np.ndarray]:
    slopes = []
    for number, array in enumerate(arrays):
        slope = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            step = np.zeros(array.shape)
            step[place] = 1e-5
            up, down = ([*arrays[:number], array + d, *arrays[number + 1 :]] for d in (step, -step))
            slope[place] = (scalar(up) - scalar(down)) / 2e-5
        slopes.append(slope)
    return slopes


@pytest.fixture
def arrays() -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((2, 3, 4)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_slopes_are_those_of_central_differences(name, arrays):
    function = OPERATIONS[name]
    inputs = [Value(array) for array in arrays]
    result = function(*inputs)
    scalar = (result * np.cos(np.arange(result.array.size)).reshape(result.shape)).sum()
    expected = central_differences(lambda at: float(value_of(function, at).array), arrays)
    for found, wanted in zip(gradients(scalar, inputs), expected, strict=True):
        np.testing.assert_allclose(found.array, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", OPERATIONS)
def test_slopes_of_slopes_are_those_of_central_differences(name, arrays):
    function = OPERATIONS[name]

    def length(at: list[np.ndarray]) -> tuple[Value, list[Value]]:
        inputs = [Value(array) for array in at]
        result = function(*inputs)
        scalar = (tape.tanh(result) * np.cos(np.arange(result.array.size)).reshape(result.shape)).sum()
        first, second = gradients(scalar, inputs)
        return (first * first + 2.0 * second * second).sum(), inputs

    scalar, inputs = length(arrays)
    expected = central_differences(lambda at: float(length(at)[0].array), arrays)
    for found, wanted in zip(gradients(scalar, inputs), expected, strict=True):
        np.testing.assert_allclose(found.array, wanted, rtol=1e-5, atol=1e-7)


def test_a_constant_passes_no_slope(arrays):
    x = Value(arrays[0])
    (slope,) = gradients((tape.constant(x) * x).sum(), [x])
    np.testing.assert_array_equal(slope.array, x.array)


def test_far_out_nothing_overflows():
    x = Value(np.array([-800.0, -20.0, 0.0, 20.0, 800.0]))
    np.testing.assert_allclose(tape.log_cosh(x).array, np.abs(x.array) - np.log(2.0) * (x.array != 0.0), rtol=1e-12)
    np.testing.assert_allclose(tape.softplus(x).array, np.logaddexp(0.0, x.array), rtol=1e-6, atol=1e-12)
