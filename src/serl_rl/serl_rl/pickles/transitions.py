# SPDX-License-Identifier: Apache-2.0
"""What pickled transitions mean, lists and numbers beside arrays, for a machine that unpickles nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

from serl_rl.pickles.arrays import ArrayMachine, PickledArray, PickledDType
from serl_rl.pickles.machine import Refused, kind_of


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

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction, of lists and floats, too. Raises Refused where it is not known."""
        if name == "EMPTY_LIST":
            self.stack.append([])
        elif name in ("APPEND", "APPENDS"):
            values = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            if not isinstance(self.stack[-1], list):
                raise Refused(f"items appended to {kind_of(self.stack[-1])}")
            self.stack[-1].extend(values)
        elif name in ("BINFLOAT", "LONG1"):
            self.stack.append(argument)
        else:
            super().step(name, argument)

    def reduce(self, function: object, arguments: object) -> object:
        """An array, a number, or a part of one. Raises Refused for every other call."""
        match function, arguments:
            case Scalar.SCALAR, (PickledDType() as dtype, bytes() as content):
                return PickledArray().fill((), dtype, False, content)
        return super().reduce(function, arguments)
