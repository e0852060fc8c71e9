# SPDX-License-Identifier: Apache-2.0
"""A learner in the actor's own process, by the interface that actors know learners by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serl_rl.config import LearningConfig
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_training.learner.schedule import Pace
from serl_training.learner.trainer import PublishedPolicy, Trainer
from serl_training.learner.training_errors import TrainingError
from serl_training.link.learner_link import LearnerTotals

from serl_rl import backends

_ACTOR: Final = "online"
_PATIENCE: Final = 600.0  # [s] for a policy: the first update is compiled before it
_LARGEST_LAG: Final = 32  # env steps that nothing was learned from yet


class LocalLearner:
    """A `Trainer` that is handed chunks and gives the newest policy; see `serl_training.link.learner_link`."""

    def __init__(
        self,
        run_dir: Path,
        spec: TransitionSpec,
        config: LearningConfig,
        *,
        seed: int,
        report: Callable[[int, dict[str, float]], None],
    ) -> None:
        """Open a run, new or old, and begin to train.

        Args:
            run_dir: gets the journal and the checkpoints.
            spec: of the transitions.
            config: of the learning.
            seed: of networks and sampling.
            report: takes env steps and named numbers, in the training thread.

        Raises:
            JournalError: the journal is damaged, or that of another task.
            CheckpointError: no checkpoint can be read although there are some.
        """
        self._changed = threading.Condition()
        self._newest: PublishedPolicy | None = None
        self._policy: NumpyPolicy | None = None
        self._trainer = Trainer(run_dir, spec, config, seed=seed, pace=Pace(), publish=self._take, report=report)
        self._session, self._sent = self._trainer.session, 0
        self._trainer.start()

    @property
    def totals(self) -> LearnerTotals:
        """What is stored in the run."""
        found = self._trainer.totals
        return LearnerTotals(found.env_steps, found.demonstrations, found.largest_episode)

    @property
    def policy(self) -> NumpyPolicy:
        """The newest policy; raises TrainingError where training has ended by itself."""
        newest = self._await(lambda newest: True)
        if self._policy is None or self.policy_version != newest.version:
            self._policy = backends.make_policy(PolicySnapshot.from_bytes(newest.data))
            self.policy_version = newest.version
        return self._policy

    policy_version = 0
    """Version of the policy that was asked for last."""

    def send(self, chunk: Chunk) -> None:
        """Store a chunk on the disk, and wait while learning is too far behind.

        Raises:
            DataError, JournalError: it does not fit, or cannot be written.
            TrainingError: training has ended by itself.
        """
        self._trainer.ingest.insert(_ACTOR, self._session, self._sent, len(chunk), encode_chunk(chunk))
        self._sent += len(chunk)
        steps = self.totals.env_steps
        self._await(lambda newest: not newest.next_update_at or steps - newest.next_update_at < _LARGEST_LAG)

    def close(self) -> None:
        """End training and save a checkpoint; raises CheckpointError, JournalError where that fails."""
        self._trainer.close(_PATIENCE)  # who waits here is a person's program, and wants all that was learned

    def _take(self, policy: PublishedPolicy) -> None:
        with self._changed:
            self._newest = policy
            self._changed.notify_all()

    def _await(self, fits: Callable[[PublishedPolicy], bool]) -> PublishedPolicy:
        def ready() -> bool:
            return self._trainer.failure is not None or (self._newest is not None and fits(self._newest))

        with self._changed:
            for _ in range(int(_PATIENCE)):
                if self._changed.wait_for(ready, 1.0):
                    break
        if self._trainer.failure is not None:
            raise TrainingError(f"training has ended: {self._trainer.failure}") from self._trainer.failure
        if self._newest is None or not fits(self._newest):
            raise TrainingError(f"expected a policy within {_PATIENCE:g} s, found none that is new enough")
        return self._newest
