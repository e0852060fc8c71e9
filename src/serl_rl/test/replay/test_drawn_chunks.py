# SPDX-License-Identifier: Apache-2.0
"""Chunks of actions as they are drawn agree with a slow walk through what was stored, one step after the other."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.config import ActingConfig, BCConfig, DrQv2Config, LearningConfig, SACConfig
from serl_rl.ingest import Ingest
from serl_rl.replay.buffer import ReplayBuffer, Sampling
from serl_rl.replay.sampler import sampling_of
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.journal import Journal

GAMMA = 0.8


@st.composite
def episodes(draw: st.DrawFn) -> list[tuple[int, str, list[int], list[bool]]]:
    """(length, how it ends, where it is cut into pieces that are sent, where a person leads) of episodes."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 9))
        end = draw(st.sampled_from(["terminated", "truncated", "left"]))
        cuts = draw(st.lists(st.integers(1, length), max_size=3))
        found.append((length, end, cuts, draw(st.lists(st.booleans(), min_size=length, max_size=length))))
    return found


def build(make_chunk, state_spec, number: int, plan: tuple[int, str, list[int], list[bool]]) -> list[Chunk]:
    length, end, cuts, led = plan
    mask, truncated = np.ones(length, np.float32), np.zeros(length, np.bool_)
    mask[-1] = float(end != "terminated")
    truncated[-1] = end == "truncated"
    whole = make_chunk(
        state_spec, length, seed=number, episode=number, mask=mask, truncated=truncated, last=end != "left",
        success=end == "terminated", intervention=np.array(led),
    )  # fmt: skip
    pieces = []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts) - {length}), length]):
        keep = np.zeros(length, np.bool_)
        keep[start:stop] = True
        pieces.extend(whole.select(keep))
    return pieces


def walk(steps: list[dict[str, Any]], chunk: int) -> dict[str, Any]:
    """What a chunk of actions from the first of these consecutive steps on is worth, by executing it."""
    reward, worth, actions = 0.0, 1.0, []
    for step in steps[:chunk]:
        actions.append(step["action"])
        reward += worth * step["reward"]
        worth *= GAMMA
        arrived, goes_on = step["after"], step["mask"]
    return {"reward": reward, "behind": worth * goes_on, "arrived": arrived, "actions": actions}


@given(episodes(), st.integers(2, 5), st.sampled_from(["sac", "hybrid", "drqv2", "vice"]))
@settings(max_examples=60)
def test_every_step_begins_a_chunk_that_is_worth_what_a_walk_finds(make_chunk, state_spec, plans, chunk, agent):
    config = LearningConfig(
        agent=agent,
        sac=SACConfig(discount=GAMMA),
        drqv2=DrQv2Config(discount=GAMMA, n_step=1),
        acting=ActingConfig(chunk=chunk, execute=chunk),
    )
    online, shown = ReplayBuffer(state_spec, 100), ReplayBuffer(state_spec, 100)
    with TemporaryDirectory() as directory, Journal(Path(directory) / "journal", state_spec) as journal:
        ingest = Ingest(state_spec, journal, online, shown)
        sent = 0
        runs: dict[bool, list[list[dict[str, Any]]]] = {False: [], True: []}  # consecutive steps in each buffer
        for number, plan in enumerate(plans):
            pieces = build(make_chunk, state_spec, number, plan)
            for piece in pieces:
                ingest.insert("actor", "session", sent, len(piece), encode_chunk(piece))
                sent += len(piece)
            steps = [
                {
                    "before": piece.observation["state"][i],
                    "after": piece.observation["state"][i + 1],
                    "action": piece.action[i],
                    "reward": float(piece.reward[i]),
                    "mask": float(piece.mask[i]),
                    "led": bool(piece.intervention[i]),
                }
                for piece in pieces
                for i in range(len(piece))
            ]
            runs[False].append(steps)
            runs[True].extend(list(group) for led, group in itertools.groupby(steps, lambda step: step["led"]) if led)
    for demonstration, buffer in ((False, online), (True, shown)):
        starts = [(run, index) for run in runs[demonstration] for index in range(len(run))]
        batch = buffer.transitions(sampling_of(config))
        assert len(batch["reward"]) == len(starts)
        for row, (run, index) in enumerate(starts):
            # Where a person has handed over, the pieces of a lead are sent one by one and are still one lead.
            expected = walk(run[index:], chunk)
            executed = batch["action"][row][batch["valid"][row] > 0]
            np.testing.assert_array_equal(batch["observation"]["state"][row], run[index]["before"])
            np.testing.assert_array_equal(executed, expected["actions"])
            np.testing.assert_array_equal(batch["next_observation"]["state"][row], expected["arrived"])
            if agent == "vice":
                visited = batch["visited"]["state"][row][: len(executed)]
                np.testing.assert_array_equal(visited, [step["after"] for step in run[index : index + len(executed)]])
            assert batch["reward"][row] == pytest.approx(expected["reward"], rel=1e-5, abs=1e-5)
            assert batch["discount"][row] * batch["mask"][row] == pytest.approx(expected["behind"], rel=1e-5)


def test_single_actions_are_drawn_as_ever_and_cloning_has_its_own_chunk():
    assert sampling_of(LearningConfig()).span == 1
    assert sampling_of(LearningConfig(agent="drqv2")).action_chunk is None
    assert sampling_of(LearningConfig(agent="bc", bc=BCConfig(chunk=5))).action_chunk == 5
    longer = LearningConfig(agent="drqv2", drqv2=DrQv2Config(n_step=7), acting=ActingConfig(chunk=4))
    assert (sampling_of(longer).n_step, sampling_of(longer).action_chunk) == (7, 4)


@pytest.mark.parametrize("spec_name", ["state_spec", "stacked_images_spec", "stacked_features_spec"])
def test_the_observations_of_a_chunk_are_those_behind_its_steps(make_episode, spec_name, request):
    spec = request.getfixturevalue(spec_name)
    buffer = ReplayBuffer(spec, 50)
    for chunk in make_episode(spec, 7, pieces=[2, 3]):
        buffer.insert(chunk)
    single = buffer.transitions()["next_observation"]
    visited = buffer.transitions(Sampling(3, 0.9, action_chunk=3, visited=True))["visited"]
    for name, rows in visited.items():
        for first in range(7):
            expected = [single[name][min(first + step, 6)] for step in range(3)]
            np.testing.assert_array_equal(rows[first], expected)


def test_observations_of_no_chunk_are_refused():
    with pytest.raises(ValueError, match="visited"):
        Sampling(n_step=2, visited=True)
