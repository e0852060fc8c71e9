# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serl_rl.config import BCConfig, LearningConfig
from serl_rl.data import Chunk, TransitionSpec, encode_chunk
from serl_training.learner import Learner, Pace, PublishedPolicy

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)
CONFIG = LearningConfig(
    agent="bc",
    bc=BCConfig(hidden_sizes=(8,)),
    batch_size=4,
    utd_ratio=2,
    random_steps=0,
    training_starts=0,
    updates_before_acting=100,
)


def demonstration(episode: int) -> Chunk:
    rng = np.random.default_rng(episode)
    end = np.arange(10) == 9
    return Chunk(
        observation={"state": rng.standard_normal((11, 3), dtype=np.float32)},
        action=rng.uniform(-1, 1, (10, 2)).astype(np.float32),
        reward=end.astype(np.float32),
        mask=(~end).astype(np.float32),
        truncated=np.zeros(10, np.bool_),
        intervention=np.ones(10, np.bool_),
        policy_version=np.zeros(10, np.uint64),
        actor_id="actor",
        episode=episode,
        first_step=0,
        demonstration=True,
        last=True,
        success=True,
    )


def wait(condition: Callable[[], bool], learner: Learner) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        if learner.failure is not None:
            raise learner.failure
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def started(run_dir: Path) -> Iterator[tuple[Learner, list[PublishedPolicy]]]:
    published: list[PublishedPolicy] = []
    learner = Learner(
        run_dir,
        SPEC,
        CONFIG,
        seed=0,
        pace=Pace(n_steps=4),
        publish=published.append,
        report=lambda _steps, _values: None,
    )
    learner.start()
    try:
        yield learner, published
    finally:
        learner.close()


def ask(learner: Learner) -> None:
    learner.insert("actor", "s", 0, 0, memoryview(b""))


def test_updates_on_demonstrations_begin_when_the_actor_has_no_more_and_come_to_an_end(tmp_path) -> None:
    with started(tmp_path) as (learner, published):
        ask(learner)  # as an actor does when it connects: there is nothing to learn from yet
        for episode in range(3):
            learner.insert("actor", "s", 10 * episode, 10, memoryview(encode_chunk(demonstration(episode))))
        wait(lambda: len(published) > 0, learner)
        time.sleep(0.3)
        assert published[-1].updates == 0
        ask(learner)
        wait(lambda: published[-1].updates >= 100, learner)
        time.sleep(0.2)
        assert published[-1].updates == 104  # in calls of 8
        assert published[-1].env_steps_trained == 0

    with started(tmp_path) as (learner, published):
        ask(learner)
        wait(lambda: len(published) > 0, learner)
        assert published[0].updates == 104  # it is not done twice
        time.sleep(0.3)
        assert published[-1].updates == 104


def test_cloning_without_demonstrations_says_what_is_missing(tmp_path) -> None:
    with started(tmp_path) as (learner, _):
        own = replace(demonstration(0), demonstration=False, intervention=np.zeros(10, np.bool_))
        learner.insert("actor", "s", 0, 10, memoryview(encode_chunk(own)))
        with pytest.raises(ValueError, match="demonstrations: expected at least one to learn from, found none"):
            wait(lambda: False, learner)
