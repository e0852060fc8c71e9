# SPDX-License-Identifier: Apache-2.0
"""What the learner does, without ROS: stores what actors send, trains in a thread of its own, publishes and saves.

Insertion never waits for a gradient step: it shares only the short moments in which buffers are written or sampled.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from serl_rl.agent import Agent
from serl_rl.backends import create_agent
from serl_rl.capacity import transitions_of
from serl_rl.checkpoint import CheckpointError
from serl_rl.config import LearningConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.imported.initial import with_initial
from serl_rl.ingest import Ingest, Mark, Totals
from serl_rl.replay.buffer import NothingToDraw, ReplayBuffer
from serl_rl.replay.prior import PriorRun, mount_priors
from serl_rl.replay.sampler import make_sampler
from serl_rl.replay.tiered_buffer import remove_unused, tiered_buffer
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import tensors
from serl_rl.storage.journal import Journal, JournalError, JournalLost

from serl_rl import checkpoint
from serl_training.learner.schedule import Due, Pace, UpdateSchedule
from serl_training.learner.training_errors import (
    RESUME,
    TrainingError,
    largest_magnitude,
    telling_of_memory,
    unbounded_losses,
)

JOURNAL = "journal"
CHECKPOINTS = "checkpoints"
REPLAY_CACHE = "replay_cache"
_REPORT_PERIOD = 0.5  # [s]
_LONGEST_UPDATE = 1.0  # [s] that the end waits for

_log = logging.getLogger(__name__)


def _log_failure(reason: str) -> None:
    if reason:
        _log.error("%s", reason)


@dataclass(frozen=True)
class PublishedPolicy:
    """A version of the policy, ready to be sent."""

    version: int
    updates: int
    """Updates that it has seen."""
    env_steps: int
    """Online env steps that were stored by then."""
    env_steps_trained: int
    """Those of them that it was trained for."""
    next_update_at: int
    """Online env steps with which it is trained further; 0: no more are needed."""
    data: bytes
    """A `PolicySnapshot`."""


class Trainer:
    """One run: its journal, buffers, agent and checkpoints.

    Attributes:
        session: tells restarts apart.
        ingest: takes what actors send. A journal that is gone ends training.
    """

    def __init__(
        self,
        run_dir: Path,
        spec: TransitionSpec,
        config: LearningConfig,
        encoder: Encoder | None = None,
        *,
        seed: int,
        pace: Pace,
        publish: Callable[[PublishedPolicy], None],
        report: Callable[[int, dict[str, float]], None],
        save_failed: Callable[[str], None] = _log_failure,
        priors: Sequence[PriorRun] = (),
    ) -> None:
        """Open a run directory, new or old; an old one goes on from its newest checkpoint and its journal.

        Args:
            run_dir: gets `journal/` and `checkpoints/`; may have weights that a new agent begins with.
            spec: of the transitions.
            config: of the learning.
            encoder: weights for an agent that sees pictures; None where there are none, or only features of them.
            seed: of networks and sampling.
            pace: how training keeps step with the data.
            publish: takes each new policy, in the training thread.
            report: takes env steps and named numbers, in the training thread.
            priors: other runs whose transitions are drawn beside demonstrations; `agent: bc` takes of them only what a
                person did.
            save_failed: told why a checkpoint could not be saved, or "" when one was saved, in the training thread.

        Raises:
            JournalError: the journal is damaged, foreign, in use by another learner, or lacks something that the newest
                checkpoint was trained on.
            CheckpointError: no checkpoint can be read although there are some.
            PriorError: another run cannot be mounted, or is no longer what this one has mounted before.
            TrainingError: the networks do not fit into the memory, the settings do not fit the machine or the task, or
                the weights to begin with are not those of the networks.
        """
        self.session = uuid.uuid4().hex
        self._config, self._pace = config, pace
        self._publish, self._report, self._save_failed = publish, report, save_failed
        make_buffer = partial(
            ReplayBuffer, spec, storage=config.vision.storage, jpeg_quality=config.vision.jpeg_quality
        )
        make_tiered = partial(
            tiered_buffer, make_buffer, spec, config.replay_memory, 1 + len(priors), run_dir / REPLAY_CACHE
        )
        online = make_tiered(transitions_of(config.replay_capacity, spec), "own", self._refill)
        demonstrations = make_buffer(config.demonstration_capacity)
        self._make_agent = partial(create_agent, spec=spec, config=config, encoder=encoder)
        try:
            with telling_of_memory():
                self._agent: Agent = self._make_agent(seed)
        except DataError as error:
            raise TrainingError(str(error)) from error
        self._checkpoints = run_dir / CHECKPOINTS
        restored = checkpoint.load_latest(self._checkpoints, self._agent)
        if restored is None:
            try:
                self._agent = with_initial(run_dir, self._agent)
            except DataError as error:
                raise TrainingError(str(error)) from error
        if restored is not None and restored.position is not None and not (run_dir / JOURNAL).is_dir():
            raise JournalError(
                f"{run_dir / JOURNAL}: is missing, but {restored.path} was trained on it; restore it, or move "
                f"{self._checkpoints} away to begin anew"
            )
        self._journal = Journal(run_dir / JOURNAL, spec)
        checkpoint.remove_incomplete(self._checkpoints)  # the journal is locked: nobody else saves here
        goals = make_buffer(config.vice.goal_capacity) if config.agent == "vice" else None
        self.ingest = Ingest(spec, self._journal, online, demonstrations, goals)
        self._version = 0
        self._schedule = UpdateSchedule(config, pace)
        self._saved = 0  # updates
        self._waits_for = ""
        try:
            mounted = mount_priors(priors, spec, run_dir, make_tiered, shown_only=config.agent == "bc")
            self._sampler = make_sampler(config, online, demonstrations, goals, seed, mounted)
            remove_unused(run_dir / REPLAY_CACHE, [online, *(prior.buffer for prior in mounted)])
            self._restore(restored)
        except BaseException:
            self._journal.close()
            raise
        self._stop = False
        self._thread = threading.Thread(target=self._train, name="training", daemon=True)
        self._failure: Exception | None = None

    @property
    def totals(self) -> Totals:
        """What is stored."""
        return self.ingest.totals

    @property
    def failure(self) -> Exception | None:
        """What ended training, if it ended by itself."""
        return self._failure or self.ingest.lost

    @property
    def is_training(self) -> bool:
        """Whether the training thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Publish the policy and begin to train."""
        self._thread.start()

    def close(self, patience: float = _LONGEST_UPDATE) -> None:
        """End training, save a checkpoint, close the journal.

        An update that compiles just now is not waited for: then the newest checkpoint stays, and the journal has all.

        Args:
            patience: for the update that is being made [s].

        Raises:
            CheckpointError, JournalError: the checkpoint, or the newest transitions, may not be on the disk.
        """
        with self.ingest.changed:
            self._stop = True
            self.ingest.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(patience)
        try:
            if not self.is_training and self.failure is None and self._schedule.updates > self._saved:
                self._save()
        finally:
            self._journal.close()

    # Training thread

    def _train(self) -> None:
        try:
            with telling_of_memory():
                self._publish_policy()
                self._warm_up(seed=0)
                self._loop()
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._failure = error

    def _warm_up(self, seed: int) -> None:
        """Compile the update before there is data, on an agent that is thrown away."""
        self._make_agent(seed).update(self._sampler.empty(self._pace.n_steps, self._config.utd_ratio))

    def _loop(self) -> None:
        config, n_steps = self._config, self._pace.n_steps
        saved_at = reported_at = time.monotonic()
        updates_then = self._schedule.updates
        losses: list[dict[str, Any]] = []
        while True:
            with self.ingest.changed:
                self.ingest.changed.wait_for(lambda: self._is_over or self._due() is not Due.NOTHING)
                if self._is_over:
                    return
                due, stored = self._due(), self.ingest.totals.env_steps
            if due is Due.COLLECTED:
                self._schedule.done(due, stored)
                self._publish_policy()
                continue
            # Insertion waits only for what the buffers guard themselves, not for pictures to be decoded.
            try:
                batch = self._sampler.sample(n_steps, config.utd_ratio)
            except NothingToDraw:  # a person has discarded the last of it in this very moment
                continue
            self._agent, info = self._agent.update(batch)
            if wrong := unbounded_losses(info):
                raise TrainingError(
                    f"training went wrong: {wrong} is NaN or infinite; {self._describe(batch)}; {RESUME}"
                )
            self._schedule.done(due, stored)
            losses.append(info)
            self._publish_policy()
            now = time.monotonic()
            if now - reported_at >= _REPORT_PERIOD:
                self._report_losses(losses, (self._schedule.updates - updates_then) / (now - reported_at))
                reported_at, updates_then = now, self._schedule.updates
                losses.clear()
            if now - saved_at >= self._pace.checkpoint_period:
                self._try_to_save()
                saved_at = now

    def _describe(self, batch: Mapping[str, Any]) -> str:
        """What stands out in a batch, and where it came from."""
        largest = largest_magnitude(batch)
        try:
            source = self.ingest.find(largest.name.rpartition(".")[2], largest.value)
        except JournalError as error:  # must not stand in for what went wrong
            source = f"(where it came from cannot be told: {error})"
        where = f"{largest.value:g} in {largest.name}, minibatch and row {largest.place} {source}"
        return f"the largest number of the batch is {where}".rstrip()

    def _due(self) -> Due:
        totals, waits_for = self.ingest.totals, self._sampler.waits_for
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            if waits_for and totals.discarded:
                _log.warning("training waits for %s: what was stored of them was discarded; record some", waits_for)
        return self._schedule.due(totals.env_steps, asked=self.ingest.asked, has_data=not waits_for)

    @property
    def _is_over(self) -> bool:
        return self._stop or self.ingest.lost is not None

    def _publish_policy(self) -> None:
        policy = self._agent.policy_snapshot()
        if (name := tensors.first_unbounded(policy.arrays)) is not None:
            raise TrainingError(f"training went wrong: {name} of the policy holds NaN or infinity; {RESUME}")
        self._version += 1
        self._publish(
            PublishedPolicy(
                version=self._version,
                updates=self._schedule.updates,
                env_steps=self.ingest.totals.env_steps,
                env_steps_trained=self._schedule.trained,
                next_update_at=self._schedule.next_update_at,
                data=policy.to_bytes(),
            )
        )

    def _report_losses(self, losses: list[dict[str, Any]], rate: float) -> None:
        totals = self.ingest.totals
        means = {name: float(np.mean([float(info[name]) for info in losses])) for name in losses[0]}
        values = {f"learner/{name}": value for name, value in means.items() if math.isfinite(value)}
        values |= {
            "learner/updates_per_s": rate,
            "learner/updates": float(self._schedule.updates),
            "learner/online_size": float(len(self.ingest.online)),
            "learner/demo_size": float(len(self.ingest.demonstrations)),
            **self._cold_sizes(),
            **self._prior_sizes(),
            "learner/env_steps": float(totals.env_steps),
            "learner/discarded": float(totals.discarded),
        }
        self._report(totals.env_steps, values)

    def _refill(self, buffer: ReplayBuffer) -> None:
        """Put all own experience of the journal into another buffer, as it is in the online one."""
        Ingest(self.ingest.spec, self._journal, buffer, ReplayBuffer(self.ingest.spec, 1)).restore()

    def _cold_sizes(self) -> dict[str, float]:
        """Transitions that are read from files; nothing where all of them are in memory."""
        cold = self.ingest.online.cold
        return {"learner/online_cold": float(cold)} if cold else {}

    def _prior_sizes(self) -> dict[str, float]:
        """Transitions of other runs that can be drawn; nothing where none is mounted."""
        priors = self._sampler.priors
        return {"learner/prior_size": float(sum(len(prior.buffer) for prior in priors))} if priors else {}

    # Checkpoints

    def _try_to_save(self) -> None:
        """Save; a full disk is told, and training goes on: the journal has everything, and the next try may succeed."""
        try:
            self._save()
        except JournalLost:
            raise
        except (CheckpointError, JournalError) as error:
            self._save_failed(f"{error}; training goes on, the earlier checkpoints are untouched")
        else:
            self._save_failed("")

    def _save(self) -> None:
        """Raises CheckpointError, JournalError: it could not be saved. JournalLost: the run is no longer there."""
        self._journal.check()  # to save would make a directory again that was deleted
        self._journal.sync()  # the checkpoint says what the journal holds: that must be so after a power failure, too
        position, totals = self.ingest.state()
        schedule = self._schedule
        counters = {"trained": schedule.trained, "rehearsed": schedule.rehearsed, "env_steps": totals.env_steps}
        checkpoint.save(
            self._checkpoints,
            self._schedule.trained,
            self._agent,
            counters=counters,
            rng=self._sampler.rng,
            position=position,
            journal=self._journal.id,
        )
        self._saved = self._schedule.updates

    def _restore(self, restored: checkpoint.Checkpoint[Agent] | None) -> None:
        mark = None
        if restored is not None and restored.position is not None:
            mark = Mark(restored.journal, restored.position, restored.counters["env_steps"])
        self.ingest.restore(mark)
        if restored is None:
            return
        self._agent = restored.agent
        self._sampler.rng = restored.rng
        self._schedule.trained, self._schedule.rehearsed = restored.counters["trained"], restored.counters["rehearsed"]
        self._saved = self._schedule.updates
