# SPDX-License-Identifier: Apache-2.0
"""Numeric message fields without a Python loop for each element.

rclpy keeps unbounded numeric fields as :class:`array.array` and checks anything else element by element, which costs
milliseconds for an image. So fields are filled with ``array(typecode, bytes)`` and read through a view.
"""

from array import array

import numpy as np


def from_array(field: array) -> np.ndarray:
    """View a numeric message field as an array (n,) without a copy; it lives as long as the message does."""
    return np.frombuffer(field, dtype=field.typecode)
