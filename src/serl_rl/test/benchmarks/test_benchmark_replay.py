# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from serl_rl.benchmarks.replay import filled_buffer, kb_per_transition, samples_per_s
from serl_rl.spec import ArraySpec, TransitionSpec

STATE = ArraySpec((8,), "float32")
PICTURES = dict.fromkeys(("front", "wrist"), ArraySpec((128, 128, 3), "uint8"))
FEATURES = dict.fromkeys(("front", "wrist"), ArraySpec((2, 4, 4, 64), "float16"))


@pytest.mark.parametrize(
    ("entries", "encoder", "storage", "most"),
    [(FEATURES, "hash", "raw", 10.0), (PICTURES, "", "jpeg", 20.0), (PICTURES, "", "raw", 100.0)],
)
def test_a_transition_takes_no_more_memory_than_promised(entries, encoder, storage, most):
    spec = TransitionSpec({"state": STATE} | entries, 4, encoder)
    episode = {name: np.full((51, *entry.shape), 7, entry.dtype) for name, entry in spec.observation.items()}
    buffer = filled_buffer(spec, [episode], 200, storage)
    assert len(buffer) == 200
    assert kb_per_transition(buffer) <= most
    assert samples_per_s(buffer, size=16, seconds=0.1) > 5
