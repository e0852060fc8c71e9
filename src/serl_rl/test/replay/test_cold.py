# SPDX-License-Identifier: Apache-2.0
"""A buffer whose older rows are in files draws what one in memory draws, whatever happens to its files."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from serl_rl.capacity import transition_bytes
from serl_rl.ingest import Ingest
from serl_rl.replay import tiered
from serl_rl.replay.buffer import SINGLE, ReplayBuffer, Sampling, map_batch
from serl_rl.replay.tiered import Cold, plan_cold
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.journal import Journal, JournalError
from serl_rl.storage.tombstone import Tombstone

SPECS = ["state_spec", "image_spec", "features_spec", "stacked_images_spec", "stacked_features_spec"]
SAMPLINGS = st.just(SINGLE) | st.builds(
    Sampling,
    n_step=st.none() | st.integers(1, 4),
    discount=st.just(0.9),
    action_chunk=st.integers(1, 3),
    visited=st.booleans(),
)
Entry = Chunk | Tombstone


def put(buffer: ReplayBuffer, entries: list[Entry]) -> None:
    for entry in entries:
        if isinstance(entry, Tombstone):
            buffer.discard(entry.actor_id, entry.episode, entry.first_step)
        else:
            buffer.insert(entry)


def tiered_buffer(spec: TransitionSpec, capacity: int, folder: Path, block: int, entries: list[Entry]) -> ReplayBuffer:
    """With the least memory, and made anew from `entries`."""
    cold = Cold(folder, 2 * block, block, lambda buffer: put(buffer, entries))
    return ReplayBuffer(spec, capacity, cold=cold)


def leaves(batch: dict[str, Any]) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = []
    map_batch(lambda rows: found.append(rows) or rows, batch)  # type: ignore[func-returns-value]
    return found


def assert_draws(buffer: ReplayBuffer, plain: ReplayBuffer, sampling: Sampling = SINGLE, seed: int = 0) -> None:
    """The same minibatches with the same seed, and the same transitions in all."""
    assert len(buffer) == len(plain)
    if not len(plain):
        return
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    pairs = [(buffer.sample(one, 30, sampling), plain.sample(other, 30, sampling))]
    pairs.append((buffer.transitions(sampling), plain.transitions(sampling)))
    assert one.bit_generator.state == other.bit_generator.state
    for found, expected in pairs:
        for ours, theirs in zip(leaves(found), leaves(expected), strict=True):
            assert np.array_equal(ours, theirs)


def episodes(make_episode: Callable[..., list[Chunk]], spec: TransitionSpec, count: int) -> list[Entry]:
    """Of 7 transitions in three chunks, those of two actors mixed."""
    parts = [make_episode(spec, 7, [2, 4], seed=n, actor_id=f"actor{n % 2}", episode=n) for n in range(count)]
    return [part[piece] for pair in zip(parts[::2], parts[1::2], strict=True) for piece in range(3) for part in pair]


@pytest.mark.parametrize("spec_name", SPECS)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8), st.booleans()), min_size=1, max_size=12),
    capacity=st.integers(1, 60),
    block=st.integers(1, 7),
    sampling=SAMPLINGS,
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_hot_or_cold_the_same_seed_draws_the_same(
    make_episode, request, spec_name, lengths, capacity, block, sampling, seed
):
    spec = request.getfixturevalue(spec_name)
    entries: list[Entry] = []
    for number, (length, cut, discarded) in enumerate(lengths):
        entries += make_episode(spec, length, [cut] if 0 < cut < length else [], seed=number, episode=number)
        entries += [Tombstone("actor", number, cut)] if discarded else []
    with tempfile.TemporaryDirectory() as folder:
        buffer, plain = tiered_buffer(spec, capacity, Path(folder), block, entries), ReplayBuffer(spec, capacity)
        for entry in entries:
            put(buffer, [entry])
            put(plain, [entry])
            assert_draws(buffer, plain, sampling, seed)
        again = tiered_buffer(spec, capacity, Path(folder), block, entries)
        put(again, entries)
        assert_draws(again, plain, sampling, seed)


def test_several_threads_read_the_same(make_episode, stacked_features_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(tiered, "_FEW_READS", -1)  # as if the disk were always waited for
    entries = episodes(make_episode, stacked_features_spec, 20)
    plain = ReplayBuffer(stacked_features_spec, 120)
    buffer = tiered_buffer(stacked_features_spec, 120, tmp_path, 3, entries)
    for each in (plain, buffer):
        put(each, entries)
    for seed in range(5):
        assert_draws(buffer, plain, seed=seed)
    assert buffer._tiered[0]._waited


def test_draws_from_files_are_uniform(make_chunk, state_spec, tmp_path):
    buffer = tiered_buffer(state_spec, 100, tmp_path, 4, [])
    for number in range(12):
        reward = np.arange(10, dtype=np.float32) + 10 * number
        buffer.insert(make_chunk(state_spec, 10, seed=number, episode=number, reward=reward))
    assert buffer.cold == 92
    counts = np.bincount(buffer.sample(np.random.default_rng(0), 100_000)["reward"].astype(int) - 20, minlength=100)
    assert counts.sum() == 100_000
    # 99 degrees of freedom: above 160 once in 10^4 seeds.
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 160.0


def _delete(path: Path) -> None:
    path.unlink()


def _tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)


DAMAGES = [_delete, _tear, _flip, _empty, _flip_header]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("spec_name", ["state_spec", "stacked_features_spec"])
def test_a_file_that_was_damaged_is_made_anew_at_the_next_start(
    make_episode, request, tmp_path, caplog, damage, spec_name
):
    spec = request.getfixturevalue(spec_name)
    entries = episodes(make_episode, spec, 20)
    plain = ReplayBuffer(spec, 100)
    put(plain, entries)
    put(tiered_buffer(spec, 100, tmp_path, 8, entries), entries)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".block"}
    untouched, *damaged = sorted(tmp_path.glob("*-*.block"))[:4]
    kept = untouched.stat().st_ino
    for path in damaged:
        damage(path)
    (tmp_path / "rows-00000099.part").write_bytes(b"half")
    buffer = tiered_buffer(spec, 100, tmp_path, 8, entries)
    put(buffer, entries)
    assert_draws(buffer, plain)
    assert untouched.stat().st_ino == kept  # what is right is not written again
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".block"} == before
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".part"]) <= 1 + len(spec.frame_names)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_changed_while_it_is_read_is_made_anew(make_episode, image_spec, tmp_path, damage):
    entries = episodes(make_episode, image_spec, 20)
    plain, buffer = ReplayBuffer(image_spec, 100), tiered_buffer(image_spec, 100, tmp_path, 8, entries)
    put(plain, entries)
    put(buffer, entries)
    for path in tmp_path.glob("*-0000000[789].block"):
        damage(path)
    assert_draws(buffer, plain)
    assert_draws(buffer, plain)


def test_a_folder_that_is_deleted_meanwhile_is_made_again(make_episode, image_spec, tmp_path):
    entries = episodes(make_episode, image_spec, 20)
    folder = tmp_path / "cache" / "own"
    plain, buffer = ReplayBuffer(image_spec, 100), tiered_buffer(image_spec, 100, folder, 8, entries)
    for number, entry in enumerate(entries):
        if number in (20, 40):
            shutil.rmtree(folder.parent)
        put(buffer, [entry])
        put(plain, [entry])
        assert_draws(buffer, plain)
    assert len(list(folder.glob("rows-*.block"))) > 2


def test_another_layout_or_capacity_uses_nothing_that_does_not_fit(make_episode, image_spec, tmp_path):
    entries = episodes(make_episode, image_spec, 20)
    for capacity, block in ((40, 8), (100, 8), (100, 5), (30, 5)):
        plain = ReplayBuffer(image_spec, capacity)
        buffer = tiered_buffer(image_spec, capacity, tmp_path, block, entries)
        put(plain, entries)
        put(buffer, entries)
        assert_draws(buffer, plain)
    # What is too old to be drawn takes no room.
    assert len(list(tmp_path.glob("rows-*.block"))) <= 30 // 5 + 1


def test_a_full_disk_holds_back_what_comes_and_loses_nothing(make_episode, state_spec, tmp_path, monkeypatch, caplog):
    entries = episodes(make_episode, state_spec, 20)
    buffer = tiered_buffer(state_spec, 1000, tmp_path / "cache", 8, entries)
    ingest = Ingest(state_spec, Journal(tmp_path / "journal", state_spec), buffer, ReplayBuffer(state_spec, 1000))
    plain, sent, full, write = ReplayBuffer(state_spec, 1000), 0, False, os.pwrite

    def pwrite(*arguments: Any) -> int:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    refused = ""
    for number, entry in enumerate(entries):
        full = number in range(5, 30)
        position = ingest.position
        try:
            ingest.insert("actor", "session", sent, len(entry), encode_chunk(entry))
        except JournalError as error:
            refused = str(error)
            assert full
            assert ingest.position == position  # the actor keeps it, and sends it again
            continue
        sent += len(entry)
        plain.insert(entry)
        assert_draws(buffer, plain)
    says = "cannot be written: No space left on device; what comes is not stored until there is room"
    assert refused == f"{tmp_path / 'cache'}: {says}"
    assert not full
    assert buffer.cold == sent - 16
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1
    again = tiered_buffer(state_spec, 1000, tmp_path / "cache", 8, entries)
    Ingest(state_spec, ingest.journal, again, ReplayBuffer(state_spec, 1000)).restore()
    assert_draws(again, plain)


VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import IMAGES, build_episode
from serl_rl.ingest import Ingest
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.tiered import Cold
from serl_rl.storage.chunk import encode_chunk
from serl_rl.storage.journal import Journal

run = Path(sys.argv[2])
buffer = ReplayBuffer(IMAGES, 300, cold=Cold(run / "cache", 16, 8, lambda _: None))
ingest = Ingest(IMAGES, Journal(run / "journal", IMAGES), buffer, ReplayBuffer(IMAGES, 10))
ingest.restore()
for number in range(10**6):
    start = ingest.totals.env_steps
    for chunk in build_episode(IMAGES, 7, [3], seed=start, actor_id=str(start), episode=start):
        ingest.insert(str(start), "session", chunk.first_step, len(chunk), encode_chunk(chunk))
    if number == 20:
        print("at work", flush=True)
"""


def test_killed_at_any_moment_the_same_seed_draws_the_same(image_spec, tmp_path):
    for _ in range(3):
        command = [sys.executable, "-c", VICTIM, str(Path(__file__).parents[1]), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            assert victim.stdout.readline() == "at work\n"
            victim.send_signal(signal.SIGKILL)
    with Journal(tmp_path / "journal", image_spec) as journal:
        plain, buffer = ReplayBuffer(image_spec, 300), tiered_buffer(image_spec, 300, tmp_path / "cache", 8, [])
        for each in (plain, buffer):
            Ingest(image_spec, journal, each, ReplayBuffer(image_spec, 10)).restore()
    assert buffer.cold > 200
    assert_draws(buffer, plain)


def test_memory_is_planned_and_kept(make_chunk, image_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(tiered, "_BLOCK_BYTES", 1000)
    each = transition_bytes(image_spec)
    assert plan_cold(image_spec, 1000, int(1000 * (each + 42)), tmp_path, lambda _: None) is None
    memory = int(1000 * 42 + 100 * each)
    cold = plan_cold(image_spec, 1000, memory, tmp_path, lambda _: None)
    assert cold is not None
    assert cold.hot == 100
    buffer = ReplayBuffer(image_spec, 1000, cold=cold)
    for number in range(40):
        buffer.insert(make_chunk(image_spec, 50, seed=number, episode=number))
    assert buffer.nbytes <= memory
    assert buffer.cold == 900
    with pytest.raises(ValueError, match=r"replay_memory: expected at least 0\.\d+MB for 1000 transitions of 0\.1 kB"):
        plan_cold(image_spec, 1000, 1000 * 42, tmp_path, lambda _: None)
    with pytest.raises(ValueError, match=r"in each of 3 equal parts, .*, found 0\.126MB; raise it") as refused:
        plan_cold(image_spec, 1000, 1000 * 42, tmp_path, lambda _: None, shares=3)
    least = re.search(r"at least (\d+\.?\d*)MB", str(refused.value))
    assert least  # what it asks for is enough
    assert plan_cold(image_spec, 1000, int(float(least[1]) * 1e6) // 3, tmp_path, lambda _: None, shares=3)
    with pytest.raises(ValueError, match=r"expected at least \d{4,}MB for .*, found 2000MB; raise it"):
        plan_cold(image_spec, 10**9, 2 * 10**9, tmp_path, lambda _: None)
    with pytest.raises(ValueError, match="storage: expected raw"):
        ReplayBuffer(image_spec, 1000, cold=cold, storage="jpeg")
