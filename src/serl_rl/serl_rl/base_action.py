# SPDX-License-Identifier: Apache-2.0
"""What an imported policy would do, beside each observation: a vector of its own, which learning improves upon.

It is computed once, when the observation arrives, and stored with it, so that the imported policy never runs where
anything is learned: each transition holds the base action of its observation and of the next one.
"""

from __future__ import annotations

from dataclasses import replace

from serl_rl.spec import ArraySpec, TransitionSpec

BASE_ACTION = "base_action"
"""Entry (A,) float32 of observations, in [-1, 1]."""


def with_base_action(spec: TransitionSpec) -> TransitionSpec:
    """The specification with base actions beside its observations; they mean what actions do."""
    entry = ArraySpec((spec.action_dim,), "float32")
    meaning = dict(spec.meaning)
    if meaning:
        meaning[BASE_ACTION] = meaning.get("action", [])
    return replace(spec, observation={**spec.observation, BASE_ACTION: entry}, meaning=meaning)
