# SPDX-License-Identifier: Apache-2.0
"""What a person discards is learned from no more, wherever it is stored already: buffers and journal against lists."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.ingest import Ingest, InsertResult
from serl_rl.replay.buffer import NothingToDraw, ReplayBuffer, Sampling, empty_batch
from serl_rl.replay.sampler import SymmetricSampler
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_rl.storage.journal import Journal, Record, read_journal
from serl_rl.storage.tombstone import Cuts, Tombstone, decode_tombstone, encode_tombstone, is_tombstone

CAPACITY = 40
GAMMA = 0.9


def open_ingest(path: Path, spec: TransitionSpec, capacity: int = 1000) -> Ingest:
    journal = Journal(path, spec, sync_interval=None)
    return Ingest(spec, journal, ReplayBuffer(spec, capacity), ReplayBuffer(spec, capacity))


@dataclass
class Sender:
    """An actor: numbers what it sends."""

    ingest: Ingest
    name: str
    sequence: int = 0

    def send(self, chunk: Chunk) -> None:
        self._insert(len(chunk), encode_chunk(chunk))

    def discard(self, episode: int, first_step: int) -> None:
        self._insert(1, encode_tombstone(Tombstone(self.name, episode, first_step)))

    def _insert(self, count: int, data: bytes) -> None:
        result = self.ingest.insert(self.name, "session", self.sequence, count, data)
        self.sequence += count
        assert result == InsertResult(self.sequence, count)


@dataclass
class Plan:
    """An episode: its pieces, and what is discarded of it behind how many of them; None: nothing."""

    actor: str
    length: int
    pieces: list[int]
    demonstration: bool
    cut: tuple[int, int] | None


PLANS = st.builds(
    Plan,
    actor=st.sampled_from(["left", "right"]),
    length=st.integers(1, 20),
    pieces=st.lists(st.integers(1, 19), max_size=4),
    demonstration=st.booleans(),
    cut=st.none() | st.tuples(st.integers(1, 5), st.integers(0, 20)),
)


@dataclass
class Lists:
    """A buffer as a list of its newest transitions: (key, reward, mask), None where one was discarded."""

    rows: list[tuple[tuple[str, int, int], float, float] | None] = field(default_factory=list)

    def add(self, chunk: Chunk, keep: Iterator[bool]) -> None:
        for step, kept in enumerate(keep):
            if kept:
                key = (chunk.actor_id, chunk.episode, chunk.first_step + step)
                self.rows.append((key, float(chunk.reward[step]), float(chunk.mask[step])))
        self.rows = self.rows[-CAPACITY:]

    def discard(self, actor: str, episode: int, first_step: int) -> None:
        def is_void(row: tuple[tuple[str, int, int], float, float]) -> bool:
            return row[0][:2] == (actor, episode) and row[0][2] >= first_step

        self.rows = [None if row is None or is_void(row) else row for row in self.rows]

    def spans(self) -> list[tuple[float, float, float]]:
        """Reward, mask and discount of samples of three steps."""
        kept = [row for row in self.rows if row is not None]
        known = {key: (reward, mask) for key, reward, mask in kept}
        found = []
        for (actor, episode, step), _, _ in kept:
            run = []
            while len(run) < 3 and (actor, episode, step + len(run)) in known:
                run.append(known[actor, episode, step + len(run)])
            reward = sum(GAMMA**i * each for i, (each, _) in enumerate(run))
            found.append((reward, run[-1][1], GAMMA ** len(run)))
        return found


def spans_of(buffer: ReplayBuffer) -> np.ndarray:
    batch = buffer.transitions(Sampling(n_step=3, discount=GAMMA))
    return np.stack([batch["reward"], batch["mask"], batch["discount"]], axis=1)


@settings(max_examples=60, deadline=None)
@given(plans=st.lists(PLANS, max_size=8), seed=st.integers(0, 99))
def test_buffers_and_a_restored_journal_hold_what_lists_hold(tmp_path_factory, make_episode, state_spec, plans, seed):
    path = tmp_path_factory.mktemp("run")
    ingest = open_ingest(path, state_spec, CAPACITY)
    online, demonstrations = Lists(), Lists()
    senders = {name: Sender(ingest, name) for name in ("left", "right")}
    for episode, plan in enumerate(plans):
        changes = {"actor_id": plan.actor, "episode": episode, "demonstration": plan.demonstration, "seed": seed}
        chunks = make_episode(state_spec, plan.length, [p for p in plan.pieces if p < plan.length], **changes)
        pieces = len(chunks) if plan.cut is None else min(plan.cut[0], len(chunks))
        for chunk in chunks[:pieces]:
            senders[plan.actor].send(chunk)
            if plan.demonstration:
                demonstrations.add(chunk, iter([True] * len(chunk)))
            else:
                online.add(chunk, iter([True] * len(chunk)))
                demonstrations.add(chunk, iter(chunk.intervention.tolist()))
        if plan.cut is not None:
            senders[plan.actor].discard(episode, plan.cut[1])
            for lists in (online, demonstrations):
                lists.discard(plan.actor, episode, plan.cut[1])
    for again in (False, True):
        if again:  # as after a kill: nothing but the journal is left
            before, ingest = ingest, open_ingest_again(ingest, path, state_spec)
            assert ingest.totals == before.totals
        for buffer, lists in ((ingest.online, online), (ingest.demonstrations, demonstrations)):
            expected = lists.spans()
            assert len(buffer) == len(expected)
            if expected:
                np.testing.assert_allclose(spans_of(buffer), expected, rtol=1e-5, atol=1e-6)
    ingest.journal.close()
    # Who reads the journal as a whole finds the same, where nothing was pushed out of the buffers.
    records = [record.data for _, record in read_journal(path, state_spec)]
    cuts = Cuts(records)
    left = [
        cuts.left_of(number, decode_chunk(data, state_spec))
        for number, data in enumerate(records)
        if not is_tombstone(data)
    ]
    rewards = [reward for chunk in left if chunk is not None and not chunk.demonstration for reward in chunk.reward]
    kept = [row for row in online.rows if row is not None]
    assert rewards[len(rewards) - len(kept) :] == [reward for _, reward, _ in kept]


def open_ingest_again(ingest: Ingest, path: Path, spec: TransitionSpec) -> Ingest:
    ingest.journal.close()
    again = open_ingest(path, spec, CAPACITY)
    again.restore()
    return again


@pytest.mark.parametrize("void", [[3], range(0, 24, 2), range(13), range(20), range(1, 24)])
def test_only_what_is_left_is_drawn_and_all_of_it_equally_often(make_chunk, state_spec, void):
    buffer = ReplayBuffer(state_spec, 100)
    for episode in range(24):
        buffer.insert(make_chunk(state_spec, 4, seed=episode, episode=episode, last=True))
    for episode in void:
        assert buffer.discard("actor", episode, 0) == 4
    left = buffer.transitions()["reward"].tolist()
    drawn = buffer.sample(np.random.default_rng(0), 200 * len(left))["reward"]
    values, counts = np.unique(drawn, return_counts=True)
    assert sorted(values.tolist()) == sorted(left)
    assert counts.min() > 130 and counts.max() < 280  # 200 +- 5 standard deviations


@settings(max_examples=25, deadline=None)
@given(void=st.sets(st.integers(0, 15), max_size=15), capacity=st.integers(16, 20), seed=st.integers(0, 99))
def test_whatever_was_discarded_the_rest_is_drawn_uniformly(make_chunk, state_spec, void, capacity, seed):
    buffer = ReplayBuffer(state_spec, capacity)
    for episode in range(-8, 16):  # around the ring
        reward = np.array([episode], np.float32)
        buffer.insert(make_chunk(state_spec, 1, reward=reward, episode=episode + 8, last=True))
    for episode in {*void, *range(16 - capacity, 0)}:
        buffer.discard("actor", episode + 8, 0)
    left = sorted(set(range(16)) - void)
    batch = empty_batch(state_spec, (4, 100 * len(left)))
    buffer.sample_into(np.random.default_rng(seed), batch)
    values, counts = np.unique(batch["reward"], return_counts=True)
    assert values.tolist() == left
    assert abs(counts - 400).max() < 130  # 6.5 standard deviations


def test_a_buffer_whose_content_was_all_discarded_is_empty_until_something_is_stored(make_chunk, state_spec):
    buffer = ReplayBuffer(state_spec, 5)
    chunk = make_chunk(state_spec, 5, episode=3)
    buffer.insert(chunk)
    assert buffer.discard("another", 3, 0) == buffer.discard("actor", 2, 0) == buffer.discard("actor", 3, 5) == 0
    assert buffer.discard("actor", 3, 0) == 5
    assert buffer.discard("actor", 3, 0) == 0, "once"
    with pytest.raises(NothingToDraw):
        buffer.sample(np.random.default_rng(0), 1)
    for number in range(3):  # over what was discarded
        buffer.insert(make_chunk(state_spec, 2, seed=number, episode=4 + number))
        assert len(buffer) == min(2 * number + 2, 5)


@pytest.mark.parametrize("wanted", ["anything", "demonstrations", "goals"])
def test_a_sampler_waits_for_what_was_discarded_and_says_what_was_never_stored(make_chunk, state_spec, wanted):
    buffers = {name: ReplayBuffer(state_spec, 50) for name in ("online", "demonstrations", "goals")}
    goals = buffers["goals"] if wanted == "goals" else None
    sampler = SymmetricSampler(
        buffers["online"],
        buffers["demonstrations"],
        4,
        seed=0,
        demonstrations_only=wanted == "demonstrations",
        goals=goals,
    )
    assert sampler.waits_for == "transitions", "nothing was stored yet"
    buffers["online"].insert(make_chunk(state_spec, 5, episode=1))
    assert not sampler.waits_for
    if wanted != "anything":
        with pytest.raises(ValueError, match=f"{wanted}: expected at least one") as missing:
            sampler.sample(1, 1)
        assert not isinstance(missing.value, NothingToDraw)
    for name in ("demonstrations", "goals"):
        buffers[name].insert(make_chunk(state_spec, 5, episode=2))
        buffers[name].discard("actor", 2, 0)
    if wanted == "anything":
        sampler.sample(1, 1)
        buffers["online"].discard("actor", 1, 0)
    assert sampler.waits_for
    with pytest.raises(NothingToDraw, match=sampler.waits_for):
        sampler.sample(1, 1)
    for name in ("demonstrations", "goals"):
        buffers[name].insert(make_chunk(state_spec, 5, episode=3))
    assert not sampler.waits_for
    sampler.sample(1, 1)


def test_what_comes_behind_a_cut_is_no_continuation(make_episode, state_spec):
    first, second = make_episode(state_spec, 8, [5])
    buffer = ReplayBuffer(state_spec, 50)
    buffer.insert(first)
    assert buffer.discard("actor", 1, 5) == 0, "nothing was stored behind it yet"
    buffer.insert(second)
    spans = spans_of(buffer)
    assert spans[4, 2] == pytest.approx(GAMMA)
    assert spans[4, 0] == pytest.approx(first.reward[4])


def test_the_last_picture_before_the_cut_still_has_its_next_one(make_episode, stacked_images_spec):
    chunks = make_episode(stacked_images_spec, 9, [4])
    buffer, alone = ReplayBuffer(stacked_images_spec, 50), ReplayBuffer(stacked_images_spec, 50)
    for chunk in chunks:
        buffer.insert(chunk)
    buffer.discard("actor", 1, 6)
    for chunk in chunks:
        left = chunk.before(6)
        assert left is not None
        alone.insert(left)
    expected, found = alone.transitions(), buffer.transitions()
    for side in ("observation", "next_observation"):
        np.testing.assert_array_equal(found[side]["wrist"], expected[side]["wrist"])
    assert found["mask"].tolist() == [1.0] * 6, "a truncation keeps its bootstrap"
    after = make_episode(stacked_images_spec, 5, [], episode=2)[0]
    buffer.insert(after)
    assert buffer.transitions()["reward"].tolist() == [*found["reward"].tolist(), *after.reward.tolist()]


def test_what_is_left_of_a_chunk_is_a_chunk_that_was_truncated(make_chunk, state_spec):
    whole = make_chunk(state_spec, 6, last=True, first_step=10)
    left = whole.before(13)
    left.check(state_spec)
    assert (len(left), left.last, left.success, left.truncated.tolist()) == (3, True, False, [False, False, True])
    assert whole.before(10) is None and whole.before(2) is None
    for step in (16, 99):
        assert whole.before(step).mask.tolist() == whole.mask.tolist(), "it had ended by itself"
    running = make_chunk(state_spec, 6, first_step=10)
    assert running.before(17).last is False
    assert running.before(16).last is True


BAD = {
    "nothing": b"SERLTMB1",
    "a list": b"SERLTMB1\x93\x01\x02\x03",
    "too much": b"SERLTMB1" + bytes(2000),
    "a field too many": encode_tombstone(Tombstone("a", 1, 2)).replace(b"\x83", b"\x84") + b"\xa1x\x01",
    "a negative step": encode_tombstone(Tombstone("a", 1, 2))[:-1] + b"\xff",
    "no number": encode_tombstone(Tombstone("a", 1, 2))[:-1] + b"\xc0",
    "a chunk's magic": b"SERLCHK1" + encode_tombstone(Tombstone("a", 1, 2))[8:],
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_odd_bytes_are_refused_and_change_nothing(tmp_path, make_chunk, state_spec, data):
    with pytest.raises(DataError):
        decode_tombstone(data)
    ingest = open_ingest(tmp_path, state_spec)
    sender = Sender(ingest, "actor")
    sender.send(make_chunk(state_spec, 3))
    position = ingest.journal.position
    with pytest.raises(DataError):
        ingest.insert("actor", "session", 3, 1, data)
    with pytest.raises(DataError):
        ingest.insert("actor", "session", 3, 2, encode_tombstone(Tombstone("actor", 1, 0)))
    assert (ingest.journal.position, len(ingest.online)) == (position, 3)
    sender.discard(1, 1)
    assert len(ingest.online) == 1
    ingest.journal.close()


@pytest.mark.parametrize(("first_step", "counted"), [(0, 1), (5, 1), (6, 2)])
def test_a_demonstration_that_was_discarded_is_missing_again(tmp_path, make_episode, state_spec, first_step, counted):
    ingest = open_ingest(tmp_path, state_spec)
    sender = Sender(ingest, "actor")
    for episode in (1, 2):
        for chunk in make_episode(state_spec, 6, [4], episode=episode, demonstration=True):
            sender.send(chunk)
    assert ingest.totals.demonstrations == 2
    for _ in range(2):  # once
        sender.discard(1, first_step)
        assert ingest.totals.demonstrations == counted
    again = open_ingest_again(ingest, tmp_path, state_spec)
    assert again.totals.demonstrations == counted
    again.journal.close()


def test_nobody_discards_what_another_actor_did(tmp_path, make_chunk, state_spec):
    ingest = open_ingest(tmp_path, state_spec)
    Sender(ingest, "left").send(make_chunk(state_spec, 3, actor_id="left"))
    position = ingest.journal.position
    with pytest.raises(DataError, match=r"tombstone\.actor_id: expected 'right', who sends it, found 'left'"):
        ingest.insert("right", "session", 0, 1, encode_tombstone(Tombstone("left", 1, 0)))
    assert (ingest.journal.position, len(ingest.online), ingest.totals.discarded) == (position, 3, 0)
    ingest.journal.close()


def test_what_a_kill_left_of_a_journal_with_tombstones_is_all_that_was_acknowledged(tmp_path, make_chunk, state_spec):
    read, write = os.pipe()
    if (child := os.fork()) == 0:  # a learner that is killed behind the acknowledgement
        ingest = open_ingest(tmp_path, state_spec)
        sender = Sender(ingest, "actor")
        sender.send(make_chunk(state_spec, 6, episode=1))
        sender.send(make_chunk(state_spec, 6, episode=2, seed=1))
        sender.discard(1, 2)
        os.write(write, b".")
        signal.pause()
    assert os.read(read, 1) == b"."
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    ingest = open_ingest(tmp_path, state_spec)
    ingest.restore()
    assert ingest.totals.discarded == 4
    assert ingest.totals.env_steps == 12, "what was done was done"
    assert len(ingest.online) == 8
    assert ingest.insert("actor", "session", 13, 0, b"").next_expected == 13
    ingest.journal.close()


def test_a_journal_without_tombstones_is_read_as_ever(tmp_path, make_chunk, state_spec):
    chunk = make_chunk(state_spec, 4, last=True)
    with Journal(tmp_path, state_spec, sync_interval=None) as journal:
        journal.append(Record("actor", "session", 0, 4, encode_chunk(chunk)))
    cuts = Cuts(record.data for _, record in read_journal(tmp_path, state_spec))
    assert cuts.left_of(0, chunk) is chunk
