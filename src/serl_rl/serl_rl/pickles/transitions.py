# SPDX-License-Identifier: Apache-2.0
"""What pickled transitions mean, lists and numbers beside arrays, for a machine that unpickles nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

from serl_rl.pickles.arrays import ArrayMachine, PickledArray, PickledDType


class Scalar(Enum):
    """What it may name beside arrays."""

    SCALAR = "numpy's scalar"


class TransitionMachine(ArrayMachine):
    """Reads lists, dictionaries, numbers and numpy's arrays."""

    most_instructions: ClassVar[int] = 50_000_000
    most_text: ClassVar[int] = 2**32
    dtypes: ClassVar[frozenset[str]] = frozenset(
        {"f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "b1"}
    )
    holds: ClassVar[str] = "numbers"
    names: ClassVar[Mapping[str, object]] = {
        **ArrayMachine.names,
        "numpy.core.multiarray scalar": Scalar.SCALAR,
        "numpy._core.multiarray scalar": Scalar.SCALAR,
    }

    def reduce(self, function: object, arguments: object) -> object:
        """An array, a number, or a part of one. Raises Refused for every other call."""
        match function, arguments:
            case Scalar.SCALAR, (PickledDType() as dtype, bytes() as content):
                return PickledArray().fill((), dtype, False, content)
        return super().reduce(function, arguments)
