# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the simulator."""

from serl_bench.library.simulation import env_steps_per_s


def test_it_gives_a_rate():
    assert env_steps_per_s(steps=60) > 0
