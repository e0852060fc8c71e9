# SPDX-License-Identifier: Apache-2.0
"""Sizes of replay buffers in settings: a number of transitions, or bytes with a unit."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from serl_rl.spec import TransitionSpec

MOST_TRANSITIONS = 10**8
PIECE = 32
"""Transitions that a piece of an episode has at least, on the average, where a buffer is to hold all that it may."""

_MOST_BYTES = 10**15
_TEXT = re.compile(r"(\d{1,16}(?:\.\d{1,6})?) ?([kMGT]?)(i?)B")
_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """Bytes of a text like 20GB, 1.5 GiB or 500MB: kB, MB, GB and TB are powers of 1000, KiB and so on of 1024.

    Raises:
        ValueError: it is no such text, or says nothing or more than 10^15 bytes.
    """
    found = _TEXT.fullmatch(text.strip().replace("KiB", "kiB"))
    size = float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]] if found else 0.0
    if not 1 <= size <= _MOST_BYTES:
        raise ValueError(f"expected bytes with a unit, as 20GB or 500MB, found {json.dumps(text)[:80]}")
    return int(size)


def _capacity(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and 1 <= value <= MOST_TRANSITIONS:
        return value
    if isinstance(value, str):
        parse_bytes(value)
        return value.strip()
    shown = str(value) if whole else json.dumps(value, default=str)
    raise ValueError(
        f"expected 1 to {MOST_TRANSITIONS} transitions, or bytes with a unit, as 20GB or 500MB, found {shown[:80]}"
    )


Capacity = Annotated[int | str, BeforeValidator(_capacity)]
"""A number of transitions, or a text with the bytes that they may take."""


def _memory(value: Any) -> Any:
    if isinstance(value, str):
        if value != "all":
            parse_bytes(value)
        return value
    raise ValueError(
        f"expected all, or bytes with a unit, as 2GB or 500MB, found {json.dumps(value, default=str)[:80]}"
    )


Memory = Annotated[str, BeforeValidator(_memory)]
"""A text with the bytes of memory that may be taken, or all."""


def transition_bytes(spec: TransitionSpec) -> float:
    """Bytes of a stored transition, on the average: vectors twice, pictures and features once, nothing compressed."""
    numbers = spec.action_dim + 2 + 2 * sum(spec.observation[name].elements for name in spec.vector_names)
    frames = (spec.observation[name] for name in spec.frame_names)
    return 4 * numbers + sum(entry.elements * entry.wire_dtype.itemsize for entry in frames) * (1 + 1 / PIECE)


def transitions_of(capacity: int | str, spec: TransitionSpec) -> int:
    """How many transitions of a specification a setting stands for, as they are stored without compression.

    Raises:
        ValueError: not even one, or more than a buffer can count.
    """
    if isinstance(capacity, int):
        return capacity
    each = transition_bytes(spec)
    count = math.floor(parse_bytes(capacity) / each)
    if not 1 <= count <= MOST_TRANSITIONS:
        raise ValueError(
            f"replay_capacity: expected bytes for 1 to {MOST_TRANSITIONS} transitions of {each / 1000:.1f} kB, "
            f"found {capacity}, which are {count}"
        )
    return count
