# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from serl_rl.benchmarks import learning as benchmark


# A tenth of what an idle core does: a busy machine passes, an insertion that copies row by row in Python does not.
@pytest.mark.parametrize(("images", "least"), [(False, 3_000), (True, 300)])
def test_insertion_keeps_up_with_many_actors(tmp_path, images, least):
    assert benchmark.insertions_per_s(tmp_path, images=images, seconds=0.3) >= least
