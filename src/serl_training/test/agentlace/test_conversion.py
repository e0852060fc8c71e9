# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_training.agentlace.conversion import LONGEST, ScriptTransitions, script_parameters

SPEC = TransitionSpec({"state": ((3,), np.float32), "wrist": ((4, 6, 3), np.uint8)}, 2)


def observation(number: int) -> dict[str, Any]:
    """As SERL's wrappers give it: with an axis for a stack of one."""
    return {
        "state": np.full((1, 3), number, np.float32),
        "wrist": np.full((1, 4, 6, 3), number % 256, np.uint8),
        "wrist_2": np.zeros((1, 8, 8, 3), np.uint8),  # which the task does not look at
    }


def transitions(length: int, *, first: int = 0, done: bool = True, **last: Any) -> list[dict[str, Any]]:
    items = [
        {
            "observations": observation(first + step),
            "actions": np.full(2, 0.5, np.float32),
            "next_observations": observation(first + step + 1),
            "rewards": np.float32(0.0),
            "masks": 1.0,
            "dones": False,
        }
        for step in range(length)
    ]
    items[-1] |= {"dones": done, "masks": 1.0 - done, "rewards": float(done)} | last
    return items


def converter(**options: Any) -> ScriptTransitions:
    return ScriptTransitions(SPEC, SPEC, None, actor_id="script", next_episode=count(7).__next__, **options)


def rows(chunks: list[Chunk], episode: int) -> list[int]:
    pieces = [each for each in chunks if each.episode == episode]
    steps = [each.first_step + step for each in pieces for step in range(len(each))]
    assert steps == list(range(len(steps)))
    return [int(value) for each in pieces for value in each.observation["state"][:-1, 0]]


@pytest.mark.parametrize("size", [1, 5, LONGEST, 200])
def test_episodes_are_what_the_script_says_however_they_are_sent(size):
    script, items = converter(), [*transitions(40), *transitions(3, first=100)]
    chunks: list[Chunk] = []
    for begin in range(0, len(items), size):
        found, refused = script.convert(items[begin : begin + size])
        assert refused == []
        chunks += found
    for chunk in chunks:
        decode_chunk(encode_chunk(chunk, SPEC), SPEC)
    assert rows(chunks, 7) == list(range(40))
    assert rows(chunks, 8) == [100, 101, 102]
    assert [each.last for each in chunks if each.episode == 7][-1]
    assert chunks[-1].success
    assert chunks[-1].mask[-1] == 0.0
    assert all(each.mask[:-1].all() and not each.truncated.any() for each in chunks)


def test_the_end_of_time_is_no_termination_where_masks_say_so():
    chunks, _ = converter().convert(transitions(3, masks=1.0, rewards=0.0))
    assert chunks[-1].last
    assert chunks[-1].truncated[-1]
    assert chunks[-1].mask[-1] == 1.0
    assert not chunks[-1].success


def test_an_episode_that_was_left_without_a_word_ends_where_the_next_begins():
    chunks, refused = converter().convert([*transitions(3, done=False), *transitions(2, first=50)])
    assert refused == []
    assert rows(chunks, 7) == [0, 1, 2]
    assert rows(chunks, 8) == [50, 51]
    assert not chunks[0].last
    assert not chunks[0].truncated.any()


def test_interventions_and_demonstrations_are_marked():
    items = transitions(2)
    items[0]["infos"] = {"intervene_action": np.zeros(2, np.float32)}
    (chunk,), _ = converter(demonstration=True).convert(items)
    assert chunk.intervention.tolist() == [True, False]
    assert chunk.demonstration


OBSERVATIONS = ("observations", "next_observations")
BAD = {
    "nothing": (None, "a dictionary"),
    "no observation": ({"observations": {}}, "arrays by name"),
    "a missing entry": (
        {name: {"state": np.zeros((1, 3), np.float32)} for name in OBSERVATIONS},
        "without",
    ),
    "another shape": ({"next_observations": {"state": np.zeros((1, 4), np.float32)}}, "shapes"),
    "another camera": (
        {name: observation(2) | {"wrist": np.zeros((1, 5, 6, 3), np.uint8)} for name in OBSERVATIONS},
        "wrist",
    ),
    "numbers that are none": ({"actions": np.full(2, np.nan, np.float32)}, "action"),
    "an action out of range": ({"actions": np.full(2, 1.5, np.float32)}, "action"),
    "another action": ({"actions": np.zeros(3, np.float32)}, "action"),
    "no reward": ({"rewards": "much"}, "rewards"),
    "a mask of a half": ({"masks": 0.5}, "mask"),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_transition_is_left_out_alone(fault, said):
    items: list[Any] = transitions(10)
    items[4] = None if fault is None else items[4] | fault
    chunks, refused = converter().convert(items)
    assert len(refused) == 1
    assert said in refused[0]
    values = [int(value) for chunk in chunks for value in chunk.observation["state"][:-1, 0]]
    assert values == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert chunks[-1].last
    for chunk in chunks:
        decode_chunk(encode_chunk(chunk, SPEC), SPEC)


def test_a_script_of_the_state_alone_sends_vectors() -> None:
    spec = TransitionSpec({"state": ((3,), np.float32)}, 2)
    script = ScriptTransitions(spec, spec, None, actor_id="script", next_episode=count(7).__next__)
    items = transitions(5)
    for item in items:
        for name in ("observations", "next_observations"):
            item[name] = item[name]["state"][0]
    chunks, refused = script.convert(items)
    assert refused == []
    assert rows(chunks, 7) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["state", "next", "actions", "rewards", "masks"])
def test_what_is_no_number_is_refused_alone(where: str, bad: float) -> None:
    items = transitions(6)
    broken = items[2]
    match where:
        case "state":
            broken["observations"]["state"] = np.float32([[0.0, bad, 0.0]])
        case "next":
            broken["next_observations"]["state"] = np.float32([[0.0, bad, 0.0]])
        case "actions":
            broken["actions"] = np.float32([0.0, bad])
        case _:
            broken[where] = bad
    chunks, refused = converter().convert(items)
    assert len(refused) == 1 and "expected" in refused[0]
    kept = sorted(int(value) for each in chunks for value in each.observation["state"][:-1, 0])
    assert kept == [0, 1, 3, 4, 5]


def test_scripts_get_parameters_as_serls_agent_has_them_or_a_line_says_why_not() -> None:
    arrays = {
        "trunk/dense_0/kernel": np.ones((3, 4), np.float32),
        "trunk/dense_0/bias": np.zeros(4, np.float32),
        "trunk/norm_0/scale": np.ones(4, np.float32),
        "trunk/norm_0/bias": np.zeros(4, np.float32),
        "head/kernel": np.ones((4, 4), np.float32),
        "head/bias": np.zeros(4, np.float32),
    }
    policy = PolicySnapshot(arrays, {"state": 3}, "tanh", SquashedGaussian((-10.0, 2.0)))
    tree, different = script_parameters(policy)
    assert different == ""
    assert tree["modules_actor"]["network"].keys() == {"Dense_0", "LayerNorm_0"}
    assert tree["modules_actor"]["Dense_1"]["kernel"].shape == (4, 2)
    tree, different = script_parameters(replace(policy, activation="relu"))
    assert different == "activation: expected tanh, found relu"
    assert tree.keys() == {"trunk", "head"}
