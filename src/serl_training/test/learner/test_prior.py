# SPDX-License-Identifier: Apache-2.0
"""Data of earlier runs are drawn beside demonstrations: by weight, read only, and the same again after a restart."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from serl_rl.config import LearningConfig
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.prior import FILE, Prior, PriorError, PriorRun, check_priors, mount_priors, read_priors, split_prior
from serl_rl.replay.sampler import SymmetricSampler, make_sampler
from serl_rl.spec import Plausible
from serl_rl.storage.chunk import Chunk, TransitionSpec, encode_chunk
from serl_rl.storage.journal import Journal, Record
from serl_rl.storage.tombstone import Tombstone, encode_tombstone
from serl_training.learner.schedule import Pace
from serl_training.learner.trainer import Trainer
from trainer_episodes import SPEC, demonstration, own

BUFFER = partial(ReplayBuffer, SPEC)


def write(run: Path, *entries: Chunk | Tombstone, spec: TransitionSpec = SPEC) -> Path:
    """A run whose journal holds these; more of them are written behind what is there."""
    with Journal(run / "journal", spec, sync_interval=None) as journal:
        first = sum(record.count for _, record in journal.replay())
        for entry in entries:
            is_chunk = isinstance(entry, Chunk)
            data = encode_chunk(entry) if isinstance(entry, Chunk) else encode_tombstone(entry)
            count = len(entry) if is_chunk else 1
            journal.append(Record("actor", "session", first, count, data))
            first += count
    return run


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def mount(own_run: Path, *runs: Path, **options: bool) -> list[Prior]:
    make = lambda count, _name, _fill: BUFFER(count)  # noqa: E731
    return mount_priors([PriorRun(run) for run in runs], SPEC, own_run, make, **options)


def rows(*chunks: Chunk) -> np.ndarray:
    return np.concatenate([chunk.action for chunk in chunks])


@pytest.fixture
def here(tmp_path: Path) -> Path:
    path = tmp_path / "here"
    path.mkdir()
    return path


def test_a_run_is_mounted_whole_without_what_was_discarded_and_not_touched(tmp_path: Path, here: Path) -> None:
    run = write(tmp_path / "a", demonstration(1), own(2), own(3), Tombstone("actor", 3, 4))
    before = fingerprint(run)
    (mounted,) = mount(here, run)
    drawn = mounted.buffer.transitions()
    assert np.array_equal(drawn["action"], rows(demonstration(1), own(2), own(3))[:24])
    assert fingerprint(run) == before
    # Of a policy that only clones, what nobody has shown is not to be learned from.
    (mounted,) = mount(here, run, shown_only=True)
    assert np.array_equal(mounted.buffer.transitions()["action"], rows(demonstration(1)))


def test_a_run_that_is_being_written_or_was_killed_is_mounted_without_its_torn_tail(tmp_path: Path, here: Path) -> None:
    run = write(tmp_path / "a", own(1), own(2))
    segment = run / "journal" / "00000000.segment"
    segment.write_bytes(segment.read_bytes()[:-7])
    (mounted,) = mount(here, run)
    assert np.array_equal(mounted.buffer.transitions()["action"], rows(own(1)))
    with Journal(run / "journal", SPEC):  # its learner is at work: it has cut the tail and holds the lock
        assert len(mount(here, run)[0].buffer) == 10


def test_a_restart_mounts_what_was_mounted_though_the_run_has_grown(tmp_path: Path, here: Path) -> None:
    run = write(tmp_path / "a", own(1))
    mount(here, run)
    write(run, own(2))
    (mounted,) = mount(here, run)
    assert len(mounted.buffer) == 10
    assert json.loads((here / FILE).read_text())["prior"][0]["transitions"] == 10
    shutil.rmtree(run)
    write(run, own(1), own(2))
    with pytest.raises(PriorError, match="has changed since this run mounted it"):
        mount(here, run)
    shutil.rmtree(run)
    with pytest.raises(PriorError, match="expected the folder of a run"):
        mount(here, run)


def test_a_flipped_byte_and_a_damaged_note_are_one_line(tmp_path: Path, here: Path) -> None:
    run = write(tmp_path / "a", own(1), own(2))
    mount(here, run)
    (here / FILE).write_text('{"prior": 3}')
    with pytest.raises(PriorError, match=r"prior\.json: expected what a learner has noted"):
        mount(here, run)
    (here / FILE).unlink()
    segment = run / "journal" / "00000000.segment"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(PriorError, match=r"--prior .*segment"):
        mount(here, run)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (TransitionSpec({"state": ((4,), "float32")}, 2), r"state: float32 \(4,\); found state: float32 \(3,\)"),
        (TransitionSpec(SPEC.observation, 3), "action: 3 components; found action: 2"),
        (replace(SPEC, meaning={"robot": "so101"}), "robot: expected so101, found panda"),
        (replace(SPEC, meaning={"robot": "panda", "period": 0.1}), "period: expected 0.1, found 0.05"),
    ],
)
def test_another_specification_is_refused_by_what_differs(
    tmp_path: Path, here: Path, spec: TransitionSpec, says: str
) -> None:
    meaning = {"robot": "panda", "period": 0.05}
    run = write(tmp_path / "a", own(1), spec=replace(SPEC, meaning=meaning) if spec.meaning else SPEC)
    with pytest.raises(PriorError, match=says) as error:
        check_priors([PriorRun(run)], spec, here)
    assert "\n" not in str(error.value)


def test_nothing_to_draw_nan_and_copies_are_refused(tmp_path: Path, here: Path) -> None:
    with pytest.raises(PriorError, match="found none in its journal"):
        mount(here, write(tmp_path / "empty"))
    bad = own(1)
    bad.action[3, 0] = np.nan
    anything = replace(SPEC, plausible=Plausible(vector=float("inf"), reward=float("inf")))
    with pytest.raises((PriorError, ValueError), match="action"):
        mount(here, write(tmp_path / "nan", bad, spec=anything))
    run = write(tmp_path / "a", own(1))
    shutil.copytree(run, tmp_path / "b")
    with pytest.raises(PriorError, match="is a copy of another one"):
        mount(here, run, tmp_path / "b")


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "much", ""])
def test_a_weight_that_is_none_is_refused(weight: str) -> None:
    with pytest.raises(PriorError, match="expected a weight above 0"):
        split_prior(f"a:{weight}")


def test_names_are_read_and_refused(tmp_path: Path, here: Path) -> None:
    run = write(tmp_path / "a", own(1))
    (tmp_path / "file").touch()
    assert read_priors([f"{run}:0.5"], here) == (PriorRun(run, 0.5),)
    assert read_priors([str(PriorRun(run, 0.25))], here) == (PriorRun(run, 0.25),)
    colon = write(tmp_path / "b:2", own(1))
    assert read_priors([str(colon)], here) == (PriorRun(colon),)
    for texts, says in (
        ([f"{tmp_path}/missing"], "found nothing"),
        ([f"{tmp_path}/file"], "found a file"),
        ([str(here)], "is the run itself"),
        ([str(run), f"{run}:2"], "is named twice"),
        ([""], "found no run"),
        (["a,b"], "without a comma"),
    ):
        with pytest.raises(PriorError, match=says):
            read_priors(texts, here)


def _marked(count: int, mark: float) -> ReplayBuffer:
    buffer = BUFFER(count)
    episode = own(int(mark) + 1, length=count)
    buffer.insert(replace(episode, reward=np.full(count, mark, np.float32)))
    return buffer


@pytest.mark.parametrize("batch_size", [4, 32])
def test_shares_follow_the_weights_and_not_the_sizes(batch_size: int) -> None:
    priors = [Prior(_marked(10, 2.0), 1.0), Prior(_marked(1000, 3.0), 0.5)]
    sampler = SymmetricSampler(_marked(50, 0.0), _marked(5, 1.0), batch_size, 0, priors=priors)
    rewards = np.concatenate([sampler.sample(2, 2)["reward"].ravel() for _ in range(1000)])
    shares = [float(np.mean(rewards == mark)) for mark in range(4)]
    assert shares[0] == 0.5
    assert shares[1:] == pytest.approx([0.2, 0.2, 0.1], abs=0.02)
    assert not sampler.waits_for
    # Alone they are all that there is.
    alone = SymmetricSampler(BUFFER(5), BUFFER(5), batch_size, 0, priors=priors[:1])
    assert not alone.waits_for
    assert set(alone.sample(1, 1)["reward"].ravel()) == {2.0}


def test_without_prior_data_batches_are_what_they_were() -> None:
    def draw(make: Callable[..., SymmetricSampler]) -> np.ndarray:
        return make().sample(2, 3)["action"]

    config = LearningConfig(batch_size=8)
    buffers = _marked(50, 0.0), _marked(5, 1.0)
    plain = np.random.default_rng(0)
    expected = [buffers[1].sample(plain, 24)["action"], buffers[0].sample(plain, 24)["action"]]
    drawn = draw(lambda: make_sampler(config, *buffers, None, 0))
    assert np.array_equal(drawn[:, :, :4].reshape(24, 2), expected[0])
    assert np.array_equal(drawn[:, :, 4:].reshape(24, 2), expected[1])


def test_a_learner_counts_what_it_has_mounted_and_refuses_what_is_gone(tmp_path: Path) -> None:
    run = write(tmp_path / "a", demonstration(1), own(2))
    config = LearningConfig(agent="bc", batch_size=4)

    def open_trainer() -> Trainer:
        return Trainer(
            tmp_path / "b",
            SPEC,
            config,
            seed=0,
            pace=Pace(n_steps=1),
            publish=lambda _: None,
            report=lambda _steps, _values: None,
            priors=[PriorRun(run)],
        )

    learner = open_trainer()
    assert learner._prior_sizes() == {"learner/prior_size": 10.0}
    learner.close()
    shutil.rmtree(run)
    with pytest.raises(PriorError, match="expected the folder of a run"):
        open_trainer()
    Journal(tmp_path / "b" / "journal", SPEC).close()  # it is not left locked
