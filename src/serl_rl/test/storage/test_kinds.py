# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from serl_rl.spec import OBSERVATION_DTYPES, ArraySpec, kind_of
from serl_rl.storage.chunk import is_vector

KINDS = {(1, "float32"): "vector", (3, "uint8"): "image", (4, "float16"): "features"}


@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.sampled_from(OBSERVATION_DTYPES), st.integers(0, 3))
def test_rows_are_what_their_specification_says(shape: list[int], dtype: str, count: int):
    expected = KINDS.get((len(shape), dtype), "other")
    rows = np.zeros((count, *shape), dtype)
    assert ArraySpec(tuple(shape), dtype).kind == kind_of(rows.shape[1:], rows.dtype) == expected
    assert is_vector(rows) == (expected == "vector")
