# SPDX-License-Identifier: Apache-2.0
"""Numeric message fields without a Python loop for each element.

rclpy keeps unbounded numeric fields as :class:`array.array` and checks anything else element by element, which costs
milliseconds for an image. Handing over an ``array.array`` of the right type code costs microseconds.
"""

from array import array

import numpy as np
import numpy.typing as npt

_DTYPES = {"f": np.float32, "d": np.float64, "B": np.uint8, "i": np.int32, "I": np.uint32, "Q": np.uint64}


def to_array(typecode: str, values: npt.ArrayLike) -> array:
    """Copy `values` into an array for a message field.

    Args:
        typecode: of :mod:`array`: ``f`` float32, ``d`` float64, ``B`` uint8, ``i`` int32, ``I`` uint32, ``Q`` uint64.
        values: anything NumPy reads; flattened in C order.
    """
    return array(typecode, np.ascontiguousarray(values, dtype=_DTYPES[typecode]).tobytes())


def from_array(field: array) -> np.ndarray:
    """View a numeric message field as a 1-D array without a copy; it lives as long as the message does."""
    return np.frombuffer(field, dtype=field.typecode)
