# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation in numpy, in float64: gradients that owe nothing to the library under test.

A `Value` is an array and how it came about. Slopes are values themselves, so that gradients of gradients work, as the
gradient penalty needs them. `test_tape` compares every operation with central differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Slope = Callable[["Value"], "Value"]
"""From the slope with respect to a result to that with respect to one of the inputs."""


class Value:
    """An array that remembers its inputs."""

    __array_priority__ = 100.0  # numpy leaves `array * value` to this class

    def __init__(self, array: ArrayLike, inputs: Sequence[tuple[Value, Slope]] = ()) -> None:
        self.array: NDArray[np.float64] = np.asarray(array, np.float64)
        self.inputs = inputs

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __add__(self, other: Any) -> Value:
        other = as_value(other)
        return Value(
            self.array + other.array,
            [(self, lambda g: _shrink(g, self.shape)), (other, lambda g: _shrink(g, other.shape))],
        )

    __radd__ = __add__

    def __mul__(self, other: Any) -> Value:
        other = as_value(other)
        return Value(
            self.array * other.array,
            [(self, lambda g: _shrink(g * other, self.shape)), (other, lambda g: _shrink(g * self, other.shape))],
        )

    __rmul__ = __mul__

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Any) -> Value:
        return self + -as_value(other)

    def __rsub__(self, other: Any) -> Value:
        return as_value(other) + -self

    def __pow__(self, exponent: float) -> Value:
        return Value(self.array**exponent, [(self, lambda g: g * exponent * self ** (exponent - 1.0))])

    def __truediv__(self, other: Any) -> Value:
        return self * as_value(other) ** -1.0

    def __matmul__(self, other: Value) -> Value:
        """Product of two matrices."""
        return Value(self.array @ other.array, [(self, lambda g: g @ other.T), (other, lambda g: self.T @ g)])

    def __getitem__(self, index: Any) -> Value:
        """Elements by any index that numpy understands."""
        return Value(self.array[index], [(self, lambda g: _put(g, index, self.shape))])

    @property
    def T(self) -> Value:
        return Value(self.array.T, [(self, lambda g: g.T)])

    def reshape(self, *shape: int) -> Value:
        return Value(self.array.reshape(shape), [(self, lambda g: g.reshape(*self.shape))])

    def sum(self, axis: int | tuple[int, ...] | None = None) -> Value:
        total = self.array.sum(axis)
        kept = np.expand_dims(total, _axes(axis, self.array.ndim)).shape
        return Value(total, [(self, lambda g: g.reshape(*kept) * np.ones(self.shape))])

    def mean(self, axis: int | tuple[int, ...] | None = None) -> Value:
        total = self.sum(axis)
        return total * (total.array.size / self.array.size)

    def min(self, axis: int) -> Value:
        """The smallest along an axis; its slope goes to the first of them alone."""
        first = np.expand_dims(self.array.argmin(axis), axis)
        places = np.expand_dims(np.arange(self.shape[axis]), tuple(i for i in range(self.array.ndim) if i != axis))
        return (self * (places == first)).sum(axis)

    def clip(self, low: float, high: float) -> Value:
        """The slope is 0 outside of the bounds."""
        inside = (self.array >= low) & (self.array <= high)
        return self * inside + np.where(inside, 0.0, self.array.clip(low, high))


def as_value(of: Any) -> Value:
    return of if isinstance(of, Value) else Value(of)


def constant(of: Value) -> Value:
    """The same without its inputs: no slope passes."""
    return Value(of.array)


def exp(x: Value) -> Value:
    return Value(np.exp(x.array), [(x, lambda g: g * exp(x))])


def log(x: Value) -> Value:
    return Value(np.log(x.array), [(x, lambda g: g / x)])


def tanh(x: Value) -> Value:
    return Value(np.tanh(x.array), [(x, lambda g: g * (1.0 - tanh(x) ** 2.0))])


def relu(x: Value) -> Value:
    return x * (x.array > 0.0)


def log_cosh(x: Value) -> Value:
    """Does not overflow, as cosh(x) = exp|x| (1 + exp(-2 |x|)) / 2."""
    size = x * np.sign(x.array)
    return size + log(1.0 + exp(-2.0 * size)) - np.log(2.0)


def softplus(x: Value) -> Value:
    """log(1 + exp(x)), which does not overflow."""
    return 0.5 * x + log_cosh(0.5 * x) + np.log(2.0)


def sigmoid(x: Value) -> Value:
    return 0.5 * tanh(0.5 * x) + 0.5


def concatenate(parts: Sequence[Value], axis: int = 0) -> Value:
    ends = np.cumsum([part.shape[axis] for part in parts])

    def slope(end: int, size: int) -> Slope:
        index = (slice(None),) * (axis % parts[0].array.ndim) + (slice(end - size, end),)
        return lambda g: g[index]

    inputs = [(part, slope(int(end), part.shape[axis])) for part, end in zip(parts, ends, strict=True)]
    return Value(np.concatenate([part.array for part in parts], axis), inputs)


def stack(parts: Sequence[Value]) -> Value:
    """Along a new first axis."""
    return concatenate([part.reshape(1, *part.shape) for part in parts])


def gradients(of: Value, at: Sequence[Value]) -> list[Value]:
    """Slopes of a scalar with respect to some of the values that it came from; zeros where it did not."""
    slopes: dict[int, Value] = {id(of): Value(1.0)}
    for value in reversed(_in_order(of)):
        if (slope := slopes.get(id(value))) is None:
            continue
        for each, back in value.inputs:
            passed = back(slope)
            slopes[id(each)] = slopes[id(each)] + passed if id(each) in slopes else passed
    return [slopes.get(id(value), Value(np.zeros(value.shape))) for value in at]


def _in_order(of: Value) -> list[Value]:
    """All values behind one, each behind its inputs."""
    done: dict[int, Value] = {}
    pending = [(of, False)]
    while pending:
        value, expanded = pending.pop()
        if id(value) in done:
            continue
        if expanded:
            done[id(value)] = value
        else:
            pending.append((value, True))
            pending.extend((each, False) for each, _ in value.inputs)
    return list(done.values())


def _axes(axis: int | tuple[int, ...] | None, dimensions: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(dimensions))
    return axis if isinstance(axis, tuple) else (axis,)


def _shrink(slope: Value, shape: tuple[int, ...]) -> Value:
    """Sum over what broadcasting has repeated."""
    if slope.shape == shape:
        return slope
    surplus = len(slope.shape) - len(shape)
    repeated = [i for i, size in enumerate(shape, surplus) if size == 1 and slope.shape[i] != 1]
    return slope.sum((*range(surplus), *repeated)).reshape(*shape)


def _put(slope: Value, index: Any, shape: tuple[int, ...]) -> Value:
    """Zeros with the slope added at an index."""
    array = np.zeros(shape)
    np.add.at(array, index, slope.array)
    return Value(array, [(slope, lambda g: g[index])])
