# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
from serl_training.agentlace_gateway_node import flat_numbers


def test_finite_numbers_are_taken_whatever_stands_beside_them() -> None:
    deep: dict[str, Any] = {"a": 1.0}
    for _ in range(100):
        deep = {"b": deep}
    payload = {
        "environment": {"return": np.float32(2.5), "success": True, "episode": {"length": 7}},
        "none": [None, "text", [1.0], np.zeros(3), np.nan, -np.inf, 10**400],
        **{
            f"bad {index}": value
            for index, value in enumerate([None, "1", [1.0], np.zeros(3), np.nan, np.inf, 10**400])
        },
        "deep": deep,
    }
    assert flat_numbers(payload) == {
        "environment/return": 2.5,
        "environment/success": 1.0,
        "environment/episode/length": 7.0,
    }
    for other in (None, 3.0, "text", [1.0], {}):
        assert flat_numbers(other) == {}
    assert len(flat_numbers({str(number): number for number in range(10_000)})) == 200
