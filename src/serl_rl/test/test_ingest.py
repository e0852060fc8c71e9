# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serl_rl.ingest import Ingest, InsertResult, Mark
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import ImplausibleError, Plausible
from serl_rl.storage.chunk import Chunk, DataError, TransitionSpec, encode_chunk
from serl_rl.storage.journal import Journal, JournalError, Record

ANYTHING = Plausible(vector=float("inf"), reward=float("inf"))


def open_ingest(path: Path, spec: TransitionSpec, capacity: int = 1000) -> Ingest:
    journal = Journal(path, spec, sync_interval=None)
    return Ingest(spec, journal, ReplayBuffer(spec, capacity), ReplayBuffer(spec, capacity))


@pytest.fixture
def ingest(tmp_path, state_spec):
    ingest = open_ingest(tmp_path / "journal", state_spec)
    yield ingest
    ingest.journal.close()


def send(ingest: Ingest, chunk: Chunk, first: int, actor: str = "actor", session: str = "s") -> InsertResult:
    return ingest.insert(actor, session, first, len(chunk), encode_chunk(chunk))


def rewards(buffer: ReplayBuffer) -> list[float]:
    return buffer.transitions()["reward"].tolist()


def test_what_is_sent_again_is_acknowledged_and_not_stored_again(ingest, make_chunk, state_spec):
    chunk = make_chunk(state_spec, 5)
    assert send(ingest, chunk, 0) == InsertResult(next_expected=5, stored=5)
    position = ingest.journal.position
    assert send(ingest, chunk, 0) == InsertResult(next_expected=5, stored=0)
    assert ingest.journal.position == position
    assert len(ingest.online) == 5


def test_a_partial_repetition_adds_only_the_rest(ingest, make_chunk, state_spec):
    chunk = make_chunk(state_spec, 6, last=True)
    head = next(chunk.select(np.arange(6) < 4))
    send(ingest, head, 0)
    assert send(ingest, chunk, 0) == InsertResult(next_expected=6, stored=2)
    assert rewards(ingest.online) == chunk.reward.tolist()


def test_a_gap_is_refused_with_the_number_to_go_on_from(ingest, make_chunk, state_spec):
    send(ingest, make_chunk(state_spec, 5), 0)
    result = send(ingest, make_chunk(state_spec, 5), 9)
    assert (result.next_expected, result.stored) == (5, 0)
    assert "send again from 5" in result.message
    assert len(ingest.online) == 5


def test_a_question_stores_nothing(ingest, make_chunk, state_spec):
    send(ingest, make_chunk(state_spec, 5), 0)
    assert ingest.insert("actor", "s", 0, 0, b"") == InsertResult(5, 0)
    assert ingest.insert("actor", "another session", 77, 0, b"") == InsertResult(0, 0)


def test_every_session_of_every_actor_counts_for_itself(ingest, make_chunk, state_spec):
    for actor in ("left", "right"):
        for session in ("a", "b"):
            assert send(ingest, make_chunk(state_spec, 3), 0, actor, session).stored == 3
    assert len(ingest.online) == 12


@pytest.mark.parametrize("change", [{"count": 4}, {"data": b"nonsense"}])
def test_bad_data_is_refused_and_neither_stored_nor_journaled(ingest, make_chunk, state_spec, change):
    arguments: dict[str, Any] = {"count": 3, "data": encode_chunk(make_chunk(state_spec, 3))} | change
    position = ingest.journal.position
    with pytest.raises(DataError):
        ingest.insert("actor", "s", 0, **arguments)
    assert ingest.journal.position == position
    assert len(ingest.online) == 0
    assert send(ingest, make_chunk(state_spec, 3), 0).stored == 3


def test_what_cannot_be_journaled_is_not_stored(ingest, make_chunk, state_spec, monkeypatch):
    def full(record: Record) -> None:
        raise JournalError("disk full")

    with monkeypatch.context() as patch, pytest.raises(JournalError):
        patch.setattr(ingest.journal, "append", full)
        send(ingest, make_chunk(state_spec, 3), 0)
    assert len(ingest.online) == 0
    assert send(ingest, make_chunk(state_spec, 3), 0) == InsertResult(3, 3)


def test_demonstrations_and_interventions_go_where_they_belong(ingest, make_chunk, state_spec):
    shown = make_chunk(state_spec, 4, seed=1, demonstration=True, last=True)
    led = np.array([False, True, True, False, True])
    own = make_chunk(state_spec, 5, seed=2, intervention=led, episode=9, last=True)
    send(ingest, shown, 0)
    send(ingest, own, 4)
    assert rewards(ingest.online) == own.reward.tolist()
    assert rewards(ingest.demonstrations) == [*shown.reward.tolist(), *own.reward[led].tolist()]
    totals = ingest.totals
    assert (totals.env_steps, totals.interventions, totals.episodes, totals.largest_episode) == (5, 3, 1, 9)
    assert (totals.demonstrations, totals.demonstration_steps) == (1, 4)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Chunks (first, count) of 30 transitions as a nervous sender sends them: repeated, overlapping, too early."""
    return draw(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 10)), max_size=40))


@pytest.mark.parametrize("spec_name", ["state_spec", "stacked_images_spec"])
@given(plan=deliveries())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_delivery_stores_each_transition_once_in_order(tmp_path_factory, make_chunk, request, spec_name, plan):
    spec = request.getfixturevalue(spec_name)
    whole = make_chunk(spec, 30, last=True)
    path = tmp_path_factory.mktemp("run")
    ingest = open_ingest(path, spec)
    stored = 0
    for first, count in plan:
        piece = next(whole.select((np.arange(30) >= first) & (np.arange(30) < first + count)))
        result = send(ingest, piece, first)
        if first <= stored < first + len(piece):
            assert result.stored == first + len(piece) - stored
            stored = first + len(piece)
        else:
            assert result.stored == 0
        assert result.next_expected == stored
    assert rewards(ingest.online) == whole.reward[:stored].tolist()
    at_once = ReplayBuffer(spec, 1000)
    for piece in whole.select(np.arange(30) < stored):
        at_once.insert(piece)
    found, expected = ingest.online.transitions(), at_once.transitions()
    for side, name in itertools.product(("observation", "next_observation"), spec.observation):
        assert np.array_equal(found[side][name], expected[side][name])
    ingest.journal.close()

    restored = open_ingest(path, spec)
    assert restored.restore() == stored
    assert rewards(restored.online) == rewards(ingest.online)
    assert rewards(restored.demonstrations) == rewards(ingest.demonstrations)
    assert restored.totals == ingest.totals
    assert restored.insert("actor", "s", 0, 0, b"").next_expected == stored
    restored.journal.close()


def test_a_restored_ring_is_the_same_ring(tmp_path, make_chunk, image_spec):
    first = open_ingest(tmp_path, image_spec, capacity=50)
    for number in range(12):
        actor = f"actor{number % 2}"
        chunk = make_chunk(image_spec, 10, seed=number, last=True, actor_id=actor, episode=number)
        send(first, chunk, 10 * (number // 2), actor)
    first.journal.close()
    second = open_ingest(tmp_path, image_spec, capacity=50)
    second.restore()
    second.journal.close()
    for buffer, again in ((first.online, second.online), (first.demonstrations, second.demonstrations)):
        sample, other = (b.sample(np.random.default_rng(3), 64) for b in (buffer, again))
        assert np.array_equal(sample["reward"], other["reward"])
        assert np.array_equal(sample["next_observation"]["wrist"], other["next_observation"]["wrist"])


def test_a_journal_with_a_gap_is_refused(tmp_path, make_chunk, state_spec):
    data = encode_chunk(make_chunk(state_spec, 3))
    with Journal(tmp_path, state_spec, sync_interval=None) as journal:
        journal.append(Record("actor", "s", 0, 3, data))
        journal.append(Record("actor", "s", 6, 3, data))
    ingest = open_ingest(tmp_path, state_spec)
    with pytest.raises(JournalError, match=r"transition 3 of .* is missing"):
        ingest.restore()
    ingest.journal.close()


def test_goals_are_the_ends_of_demonstrations_that_succeeded(tmp_path, make_chunk, make_episode, state_spec):
    buffers = [ReplayBuffer(state_spec, 100) for _ in range(3)]
    ingest = Ingest(state_spec, Journal(tmp_path / "journal", state_spec, sync_interval=None), *buffers)
    shown = {"demonstration": True}
    succeeded = make_episode(state_spec, 9, [4], seed=1, **shown)
    failed = make_chunk(state_spec, 5, seed=2, last=True, success=False, episode=2, **shown)
    own = make_chunk(state_spec, 5, seed=3, last=True, episode=3)
    first = 0
    for chunk in [*succeeded, failed, own]:
        send(ingest, chunk, first)
        first += len(chunk)
    ingest.journal.close()
    goals = buffers[2].transitions()["next_observation"]["state"]
    np.testing.assert_array_equal(goals, succeeded[-1].observation["state"][-1:])


def test_values_that_are_not_plausible_are_refused_by_name_and_a_task_may_allow_them(tmp_path, make_chunk, state_spec):
    ingest = open_ingest(tmp_path / "a", state_spec)
    wide = replace(state_spec, plausible=Plausible(vector=1e6, reward=1e6))
    for value, message in (
        (3e38, r"observation\.state\[3\]: expected values from -1000 to 1000, found 3e\+38 in row 2"),
    ):
        chunk = make_chunk(state_spec, 5)
        chunk.observation["state"][2, 3] = value
        with pytest.raises(ImplausibleError, match=message):
            ingest.insert("actor", "s", 0, 5, encode_chunk(chunk, replace(state_spec, plausible=ANYTHING)))
    for changes, message in (
        ({"reward": np.full(5, -1e5, np.float32)}, r"reward: expected values from -10000 to 10000, found -100000"),
        ({"action": np.full((5, 2), 1.1, np.float32)}, "action"),
        ({"mask": np.full(5, 0.5, np.float32)}, "mask"),
        ({"episode": 2**40}, "episode: expected a number below"),
    ):
        chunk = make_chunk(state_spec, 5)
        data = encode_chunk(chunk)
        for name, value in changes.items():
            if isinstance(value, np.ndarray):
                data = data.replace(getattr(chunk, name).tobytes(), value.tobytes())
        if "episode" in changes:
            data = encode_chunk(make_chunk(state_spec, 5, **changes))
        with pytest.raises(DataError, match=message):
            ingest.insert("actor", "s", 0, 5, data)
    assert ingest.totals.env_steps == 0
    ingest.journal.close()
    allowed = open_ingest(tmp_path / "b", wide)
    chunk = make_chunk(state_spec, 5, reward=np.full(5, -1e5, np.float32))
    assert allowed.insert("actor", "s", 0, 5, encode_chunk(chunk, wide)).stored == 5
    allowed.journal.close()

    # What was let in stays in the journal, counts, and is left out of the buffers where it is not plausible any more.
    again = open_ingest(tmp_path / "b", state_spec)
    assert again.restore() == 5
    assert (again.totals.env_steps, len(again.online)) == (5, 0)
    assert again.insert("actor", "s", 0, 0, b"").next_expected == 5
    again.journal.close()


def test_transitions_of_another_meaning_are_refused(tmp_path, make_chunk, state_spec):
    ours, theirs = (replace(state_spec, meaning={"scale": scale}) for scale in (0.1, 0.2))
    ingest = open_ingest(tmp_path, ours)
    for meaning in (ours.meaning_hash, ""):  # "": made before there were meanings
        chunk = make_chunk(state_spec, 3, meaning=meaning)
        assert send(ingest, chunk, ingest.totals.env_steps).stored == 3
    with pytest.raises(DataError, match=f"meaning: .*{ours.meaning_hash}.*{theirs.meaning_hash}"):
        send(ingest, make_chunk(state_spec, 3, meaning=theirs.meaning_hash), 6)
    ingest.journal.close()
    with pytest.raises(JournalError, match=r"scale: expected 0\.2, found 0\.1"):
        open_ingest(tmp_path, theirs)
    open_ingest(tmp_path, state_spec).journal.close()


def test_a_journal_is_compared_with_the_place_where_a_checkpoint_left_it(tmp_path, make_chunk, state_spec):
    path = tmp_path / "whole"
    first = open_ingest(path, state_spec)
    marks = []
    for number in range(4):
        send(first, make_chunk(state_spec, 10, seed=number), 10 * number)
        position, totals = first.state()
        marks.append(Mark(first.journal.id, position, totals.env_steps))
    first.journal.close()

    def restore(mark: Mark, where: Path = path) -> int:
        ingest = open_ingest(where, state_spec)
        try:
            return ingest.restore(mark)
        finally:
            ingest.journal.close()

    assert [restore(mark) for mark in marks] == [40] * 4
    assert restore(replace(marks[1], journal="")) == 40  # of an older version
    with pytest.raises(JournalError, match=r"env_steps: expected 21, found 20"):
        restore(replace(marks[1], env_steps=21))
    with pytest.raises(JournalError, match=r"journal: expected other, found"):
        restore(replace(marks[1], journal="other"))
    cut = tmp_path / "cut"
    shutil.copytree(path, cut)
    os.truncate(cut / "00000000.segment", marks[2].position.offset)
    assert restore(marks[2], cut) == 30
    with pytest.raises(
        JournalError, match=r"position: expected \(0, \d+\), found \(0, \d+\); env_steps: expected 40, found 30"
    ):
        restore(marks[3], cut)
