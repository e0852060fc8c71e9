# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_rl.backends import create_agent, make_policy
from serl_rl.checkpoint import CheckpointError
from serl_rl.config import BCConfig, LearningConfig
from serl_rl.foreign.initial import InitialWeights
from serl_rl.imported.initial import FILE, write_initial
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import Plausible
from serl_rl.storage.chunk import Chunk, TransitionSpec, encode_chunk
from serl_rl.storage.journal import JournalError, JournalLost
from serl_rl.storage.segment import scan
from serl_rl.storage.tombstone import Tombstone, encode_tombstone
from serl_training.learner.schedule import Due, Pace, UpdateSchedule
from serl_training.learner.trainer import PublishedPolicy, Trainer
from serl_training.learner.training_errors import TrainingError
from trainer_episodes import SPEC, demonstration, own

ANYTHING = Plausible(vector=float("inf"), reward=float("inf"))

CONFIG = LearningConfig(
    agent="bc",
    bc=BCConfig(hidden_sizes=(8,)),
    batch_size=4,
    utd_ratio=2,
    random_steps=0,
    training_starts=0,
    updates_before_acting=100,
)


def wait(condition: Callable[[], bool], learner: Trainer) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        if learner.failure is not None:
            raise learner.failure
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def started(
    run_dir: Path, spec: TransitionSpec = SPEC, **options: Any
) -> Iterator[tuple[Trainer, list[PublishedPolicy]]]:
    published: list[PublishedPolicy] = []
    learner = Trainer(
        run_dir,
        spec,
        CONFIG,
        seed=0,
        publish=published.append,
        report=lambda _steps, _values: None,
        **{"pace": Pace(n_steps=4)} | options,
    )
    learner.start()
    try:
        yield learner, published
    finally:
        learner.close()


def ask(learner: Trainer) -> None:
    learner.ingest.insert("actor", "s", 0, 0, memoryview(b""))


def practise(learner: Trainer, published: list[PublishedPolicy]) -> PublishedPolicy:
    """Store four env steps of the policy's own and wait until they are trained for: all that was due before is done."""
    number = learner.totals.env_steps
    data = encode_chunk(own(100 + number, length=4))
    learner.ingest.insert("actor", f"practice {number}", 0, 4, memoryview(data))
    wait(lambda: bool(published) and published[-1].env_steps_trained == learner.totals.env_steps, learner)
    return published[-1]


def test_updates_on_demonstrations_begin_when_the_actor_has_no_more_and_come_to_an_end(tmp_path) -> None:
    with started(tmp_path) as (learner, published):
        ask(learner)  # as an actor does when it connects: there is nothing to learn from yet
        for episode in range(3):
            learner.ingest.insert("actor", "s", 10 * episode, 10, memoryview(encode_chunk(demonstration(episode))))
        wait(lambda: len(published) > 0, learner)
        assert published[0].updates == 0
        assert practise(learner, published).updates == 8, "what was practised, and nothing on demonstrations alone"
        ask(learner)
        wait(lambda: published[-1].updates >= 100, learner)
        assert published[-1].env_steps_trained == 4
        assert practise(learner, published).updates == 8 + 104 + 8  # in calls of 8

    with started(tmp_path) as (learner, published):
        ask(learner)
        wait(lambda: len(published) > 0, learner)
        assert published[0].updates == 120
        assert practise(learner, published).updates == 128  # it is not done twice


@given(
    before_acting=st.integers(0, 50),
    training_starts=st.integers(0, 30),
    n_steps=st.integers(1, 8),
    utd_ratio=st.integers(1, 4),
    arrivals=st.lists(st.integers(0, 12), max_size=20),
    asked=st.integers(0, 20),
)
def test_updates_keep_step_with_the_data(before_acting, training_starts, n_steps, utd_ratio, arrivals, asked) -> None:
    config = replace(CONFIG, updates_before_acting=before_acting, training_starts=training_starts, utd_ratio=utd_ratio)
    schedule = UpdateSchedule(config, Pace(n_steps=n_steps))
    stored = 0
    for number, count in enumerate(arrivals):
        stored += count
        done = []
        while (due := schedule.due(stored, asked=number >= asked)) is not Due.NOTHING:
            schedule.done(due, stored)
            done.append(due)
        assert done == sorted(done, key=[Due.REHEARSAL, Due.COLLECTED, Due.TRAINING].index)
        call = n_steps * utd_ratio
        assert schedule.rehearsed == (-(-before_acting // call) * call if number >= asked else 0)
        if stored < training_starts:
            assert schedule.trained == stored and Due.TRAINING not in done
        else:
            assert 0 <= stored - schedule.trained < n_steps
        assert schedule.updates == schedule.rehearsed + schedule.trained * utd_ratio
        enough = schedule.next_update_at
        assert stored < enough
        assert schedule.due(enough, asked=number >= asked) is Due.TRAINING
        assert schedule.due(enough - 1, asked=number >= asked) is not Due.TRAINING


def test_without_coupling_training_goes_on_for_as_long_as_there_is_data() -> None:
    schedule = UpdateSchedule(replace(CONFIG, training_starts=5), Pace(coupled=False))
    assert [schedule.due(stored, asked=False) for stored in (0, 4, 5)] == [Due.NOTHING, Due.NOTHING, Due.TRAINING]
    for _ in range(10):
        schedule.done(Due.TRAINING, 5)
        assert schedule.due(5, asked=False) is Due.TRAINING
    assert schedule.next_update_at == 0


def test_cloning_without_demonstrations_says_what_is_missing(tmp_path) -> None:
    with started(tmp_path) as (learner, _):
        learner.ingest.insert("actor", "s", 0, 10, memoryview(encode_chunk(own(0))))
        with pytest.raises(ValueError, match="demonstrations: expected at least one to learn from, found none"):
            wait(lambda: False, learner)


def discard(learner: Trainer, episode: int, session: str) -> None:
    learner.ingest.insert("actor", session, 0, 1, memoryview(encode_tombstone(Tombstone("actor", episode, 0))))


def test_cloning_whose_demonstrations_were_all_discarded_waits_for_others_also_after_a_restart(tmp_path, caplog):
    with started(tmp_path) as (learner, published):
        send(learner, demonstration(0))
        practise(learner, published)
        discard(learner, 0, session="discard")
        practise(learner, published)  # nobody is held up
        assert "training waits for demonstrations: what was stored of them was discarded; record some" in caplog.text
    caplog.clear()
    with started(tmp_path) as (learner, published):
        wait(lambda: bool(published), learner)
        practise(learner, published)
        assert "training waits for demonstrations" in caplog.text
        assert learner.is_training
        updates = published[-1].updates
        send(learner, demonstration(1), session="again")
        ask(learner)
        wait(lambda: published[-1].updates >= updates + 100, learner)


def test_a_batch_that_fits_into_no_memory_is_told_in_one_line(tmp_path) -> None:
    with (
        started(tmp_path, pace=Pace(n_steps=10**13)) as (learner, _),
        pytest.raises(TrainingError, match=r"memory does not suffice \(.*\); choose a smaller"),
    ):
        wait(lambda: False, learner)


def rehearse(learner: Trainer, published: list[PublishedPolicy]) -> None:
    """Hand demonstrations over and wait until they are learned."""
    send(learner, *(demonstration(episode) for episode in range(3)))
    ask(learner)
    wait(lambda: bool(published) and published[-1].updates >= 100, learner)


def send(learner: Trainer, *chunks: Chunk, session: str = "s") -> None:
    for number, chunk in enumerate(chunks):
        data = encode_chunk(chunk, replace(SPEC, plausible=ANYTHING))
        learner.ingest.insert("actor", session, len(chunk) * number, len(chunk), memoryview(data))


def test_numbers_that_ruin_the_training_end_it_before_they_are_saved_and_it_can_be_resumed(tmp_path) -> None:
    with started(tmp_path) as (learner, published):
        rehearse(learner, published)
    saved = sorted((tmp_path / "checkpoints").iterdir())
    poison = demonstration(7)
    poison.observation["state"][4, 1] = 3e38
    with started(tmp_path, replace(SPEC, plausible=ANYTHING)) as (learner, published):
        send(learner, poison, own(8), session="poison")
        with pytest.raises(TrainingError, match="is NaN or inf") as error:
            wait(lambda: bool(published), learner)
            for number in range(100):
                send(learner, own(9 + number), session=f"more {number}")
                wait(lambda: published[-1].env_steps_trained >= learner.totals.env_steps - 4, learner)
        assert "3e+38 in observation.state" in str(error.value) or "observation.state, minibatch" in str(error.value)
        assert "from actor, episode 7, step" in str(error.value)
        for policy in published:
            make_policy(PolicySnapshot.from_bytes(policy.data))
    assert sorted((tmp_path / "checkpoints").iterdir()) == saved
    with started(tmp_path) as (learner, published):  # the poison is in the journal, and left out
        wait(lambda: bool(published), learner)
        assert published[0].updates == 104
        wait(lambda: published[-1].env_steps_trained >= learner.totals.env_steps - 4, learner)
        assert learner.totals.demonstrations == 4
    assert sorted((tmp_path / "checkpoints").iterdir()) > saved


def test_a_damaged_journal_does_not_hide_that_training_went_wrong(tmp_path) -> None:
    poison = demonstration(7)
    poison.observation["state"][4, 1] = 3e38
    with started(tmp_path, replace(SPEC, plausible=ANYTHING)) as (learner, published):
        wait(lambda: bool(published), learner)
        send(learner, *[poison] * 3)
        (segment,) = (tmp_path / "journal").glob("*.segment")
        data = bytearray(segment.read_bytes())
        data[len(data) // 4] ^= 1  # in the first of the three
        with segment.open("r+b") as file:
            file.write(data)
        with pytest.raises(TrainingError, match=r"cannot be told: .*the record is damaged"):
            ask(learner)
            wait(lambda: False, learner)


def delete(run: Path) -> None:
    """At once: file by file a checkpoint may come between."""
    shutil.rmtree(run.rename(run.with_name("deleted")))


def test_a_run_that_is_deleted_ends_training_and_is_not_made_again(tmp_path) -> None:
    run = tmp_path / "run"
    with started(run) as (learner, published):
        rehearse(learner, published)
        delete(run)
        with pytest.raises(JournalLost, match=str(run)):
            send(learner, demonstration(9), session="late")
        assert isinstance(learner.failure, JournalLost)
    assert not run.exists()


def test_a_run_that_is_deleted_while_nothing_comes_is_noticed_at_the_next_checkpoint(tmp_path) -> None:
    run = tmp_path / "run"
    with started(run, pace=Pace(coupled=False, n_steps=1, checkpoint_period=0.05)) as (learner, published):
        rehearse(learner, published)
        send(learner, replace(demonstration(5), demonstration=False), session="own")
        delete(run)
        with pytest.raises(JournalLost, match="is gone"):
            wait(lambda: False, learner)
    assert not run.exists()


def test_a_full_disk_at_a_checkpoint_is_told_and_training_goes_on(tmp_path) -> None:
    told: list[str] = []
    (tmp_path / "checkpoints").mkdir()
    with started(tmp_path, pace=Pace(coupled=False, n_steps=1, checkpoint_period=0.05), save_failed=told.append) as (
        learner,
        published,
    ):
        rehearse(learner, published)
        send(learner, replace(demonstration(5), demonstration=False), session="own")
        wait(lambda: "" in told, learner)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            wait(lambda: bool(told[-1]), learner)
            version = published[-1].version
            wait(lambda: published[-1].version > version + 3, learner)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert "cannot save a checkpoint" in next(line for line in told if line)
        wait(lambda: not told[-1], learner)
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize("harm", ["cut", "deleted", "exchanged", "another meaning"])
def test_a_journal_that_is_not_the_one_beside_the_checkpoints_is_refused(tmp_path, harm) -> None:
    spec = replace(SPEC, meaning={"scale": 0.1})
    with started(tmp_path / "run", spec) as (learner, published):
        rehearse(learner, published)
    segment = tmp_path / "run/journal/00000000.segment"
    if harm == "cut":
        os.truncate(segment, [end for end, _ in scan(segment, "journal")][1])
        message = r"position: expected \(0, \d+\), found \(0, \d+\)"
    elif harm == "deleted":
        shutil.rmtree(segment.parent)
        message = r"journal: is missing, but .*_step_0 was trained on it"
    elif harm == "exchanged":
        with started(tmp_path / "other", spec) as (learner, published):
            rehearse(learner, published)
        segment.write_bytes((tmp_path / "other/journal/00000000.segment").read_bytes())
        message = r"journal: expected [0-9a-f]{16}, found [0-9a-f]{16}"
    else:
        spec = replace(SPEC, meaning={"scale": 0.2})
        message = r"scale: expected 0\.2, found 0\.1"
    before = {path: path.stat().st_size for path in (tmp_path / "run").rglob("*.s*")}
    with pytest.raises((JournalError, CheckpointError), match=message), started(tmp_path / "run", spec):
        pass
    assert {path: path.stat().st_size for path in (tmp_path / "run").rglob("*.s*")} == before


def test_a_new_run_begins_with_the_weights_in_its_folder(tmp_path: Path) -> None:
    other = create_agent(9, SPEC, CONFIG)
    weights = {name: array for name, array in other.arrays().items() if array.dtype == np.float32}
    write_initial(tmp_path, InitialWeights(tmp_path, "bc", {}, {}, 1, 2, 2, weights))
    with started(tmp_path) as (learner, published):
        learner.ingest.insert("actor", "s", 0, 10, memoryview(encode_chunk(demonstration(0))))
        practise(learner, published)
    assert published[0].updates == 0
    found = PolicySnapshot.from_bytes(published[0].data).arrays
    for name, array in other.policy_snapshot().arrays.items():
        np.testing.assert_array_equal(found[name], array)
    half = tmp_path / "half"
    half.mkdir()
    (half / FILE).write_bytes(b"half")
    with pytest.raises(TrainingError, match=FILE), started(half):
        pass


def test_a_run_that_began_with_weights_is_resumed_with_what_it_learned(tmp_path: Path) -> None:
    other = create_agent(9, SPEC, CONFIG)
    weights = {name: array for name, array in other.arrays().items() if array.dtype == np.float32}
    write_initial(tmp_path, InitialWeights(tmp_path, "bc", {}, {}, 1, 2, 2, weights))
    with started(tmp_path) as (learner, published):
        rehearse(learner, published)
        last = practise(learner, published)
    (tmp_path / FILE).write_bytes(b"what it began with is not needed again")
    with started(tmp_path) as (learner, again):
        learner.ingest.insert("actor", "new", 0, 10, memoryview(encode_chunk(demonstration(5))))
        wait(lambda: bool(again), learner)
    assert again[0].updates == last.updates
    learned, begun = PolicySnapshot.from_bytes(last.data).arrays, other.policy_snapshot().arrays
    for name, array in PolicySnapshot.from_bytes(again[0].data).arrays.items():
        np.testing.assert_array_equal(array, learned[name])
        assert (array != begun[name]).any(), name
