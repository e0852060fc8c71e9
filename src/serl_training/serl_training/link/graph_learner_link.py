# SPDX-License-Identifier: Apache-2.0
"""The actor's end of the link: the service `learner/insert` and the topic `learner/policy`."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.subscription import Subscription
from serl_rl.backends import make_policy
from serl_rl.config import Backend
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.tombstone import Tombstone, encode_tombstone
from serl_ros.execution.executor import FastExecutor
from serl_ros.incoming import refuse
from serl_ros.log import INFO, WARN, log
from serl_ros.qos import LATCHED

from serl_interfaces.msg import PolicyParameters
from serl_interfaces.srv import InsertTransitions
from serl_training.link.graph_id import belong_together, mismatch
from serl_training.link.graph_insertion_client import InsertionClient
from serl_training.link.learner_link import JobFailed, LearnerTotals

_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for


class GraphLearnerLink:
    """A `LearnerLink` to the learner node of this graph.

    Whatever waits says every few seconds for what, and ends with what `check` raises, or with `JobFailed` once the
    learner refuses what it was sent.
    """

    def __init__(
        self,
        node: Node,
        executor: FastExecutor,
        *,
        spec: TransitionSpec,
        encoder: Encoder | None = None,
        actor_id: str,
        graph_id: str = "",
        prefix: str = "",
        max_lead: int,
        max_backlog: int,
        check: Callable[[], None],
        backend: Backend = "jax",
    ) -> None:
        """Connect.

        Args:
            node: to use; spun by `executor`.
            executor: spins while waiting.
            spec: of the transitions.
            encoder: for policies that act on pictures and have none of their own.
            actor_id: of the transitions.
            graph_id: of the graph, empty for any; the learner of another one is not talked to.
            prefix: before the names of service and topic; of a learner that is one of several.
            max_lead: wait while the policy lags by more env steps than this; 0 never waits.
            max_backlog: wait while more transitions than this are unacknowledged.
            check: called while waiting; may raise to leave.
            backend: that encodes the pictures of policies that act on them.
        """
        self._node, self._executor, self._check = node, executor, check
        self._spec, self._encoder, self._backend = spec, encoder, backend
        self._actor_id, self._max_lead, self._max_backlog = actor_id, max_lead, max_backlog
        self._graph_id, self._prefix = graph_id, prefix
        self._pending_online = 0
        self._sent_episode = 0
        self._policy: NumpyPolicy | None = None
        self._learner_session = ""
        self._policy_version = 0
        self._updates = 0
        self._trained = 0
        self._next_update_at = 0
        self._client = node.create_client(InsertTransitions, f"{prefix}learner/insert")
        self._insertion = InsertionClient(node, self._client, actor_id=actor_id, graph_id=graph_id, spec=spec)
        self._subscription = self._listen()

    @property
    def totals(self) -> LearnerTotals:
        """What is stored or on its way."""
        return LearnerTotals(
            env_steps=self._insertion.stored.env_steps + self._pending_online,
            demonstrations=self._insertion.stored.demonstrations,
            episodes=max(self._insertion.stored.episodes, self._sent_episode),
        )

    @property
    def policy(self) -> NumpyPolicy:
        """The newest policy.

        Raises:
            JobFailed: none has arrived; `connect` waits for one.
        """
        if self._policy is None:
            raise JobFailed("no policy has arrived on learner/policy; is the learner running?")
        return self._policy

    @property
    def policy_version(self) -> int:
        """Version of the newest policy within the learner's session."""
        return self._policy_version

    @property
    def lag(self) -> int:
        """Online env steps that the newest policy has not been trained for."""
        return max(0, self.totals.env_steps - self._trained)

    @property
    def backlog(self) -> int:
        """Transitions that are not acknowledged."""
        return self._insertion.backlog

    @property
    def silence(self) -> float:
        """Seconds for which nothing was heard of the learner although it has something to answer, or is not there."""
        return self._insertion.silence

    @property
    def session(self) -> str:
        """Identifier of this actor's session; new for every start."""
        return self._insertion.session

    @property
    def acknowledged(self) -> int:
        """Transitions of this session that the learner has stored."""
        return self._insertion.acknowledged

    def connect(self) -> None:
        """Wait until the learner has told its totals and sent a policy."""
        names = f"{self._prefix}learner/insert and {self._prefix}learner/policy (learner)"
        self._wait(lambda: self._insertion.ask() and self._policy is not None, lambda: names)

    def send(self, chunk: Chunk) -> None:
        """Hand over a chunk; raises DataError if it does not fit the specification."""
        self._insertion.add(len(chunk), encode_chunk(chunk, self._spec))
        if not chunk.demonstration:
            self._pending_online += len(chunk)
        self._sent_episode = max(self._sent_episode, chunk.episode)
        self.pump()

    def discard(self, episode: int, first_step: int) -> None:
        """Hand over a tombstone, behind the chunks that it is about."""
        self._insertion.add(1, encode_tombstone(Tombstone(self._actor_id, episode, first_step)))
        self.pump()

    def throttle(self) -> None:
        """Wait while the actor is too far ahead of the learner."""
        self.pump()
        if not self._ahead():
            return
        self._wait(
            lambda: not self._ahead(),
            lambda: f"the learner to catch up (policy lag {self.lag}, {self.backlog} transitions not acknowledged)",
        )

    def settle(self, env_steps: int = 0) -> None:
        """Wait for the policy that stays until there are more env steps, than `env_steps` where others know of more.

        Where none ever stays, nothing is waited for.
        """

        def stored() -> int:
            return max(env_steps, self.totals.env_steps)

        self._wait(
            lambda: not self._next_update_at or stored() < self._next_update_at,
            lambda: f"the learner to be done with {stored()} env steps",
        )

    def await_updates(self, count: int) -> None:
        """Tell the learner that demonstrations are complete; wait for a policy with so many updates behind it."""
        self._insertion.connected = False  # to ask is what tells it
        self._wait(
            lambda: self._insertion.ask_each(self._learner_session) and self._updates >= count,
            lambda: self._missing_updates(count),
        )

    def flush(self) -> None:
        """Wait until everything sent is acknowledged."""
        self._wait(
            lambda: self._insertion.backlog == 0,
            lambda: f"the learner to acknowledge {self._insertion.backlog} transitions",
        )

    def pump(self) -> None:
        """Take replies, send what may be sent, send again what got lost. Never waits."""
        session = self._insertion.session
        try:
            self._insertion.pump()
        finally:
            backlog = 0 if self._insertion.session != session else self._insertion.backlog
            self._pending_online = min(self._pending_online, backlog)

    def _ahead(self) -> bool:
        too_far = self._max_lead > 0 and self.lag > self._max_lead
        return too_far or self._insertion.backlog > self._max_backlog

    def _on_policy(self, message: PolicyParameters) -> None:
        if not belong_together(message.graph_id, self._graph_id):
            refuse(
                self._node, f"{self._prefix}learner/policy", f"it is of {mismatch(message.graph_id, self._graph_id)}"
            )
            return
        # Another one, not a larger one: a wrong number that was believed once must not silence the learner for good.
        if message.session == self._learner_session and message.version == self._policy_version:
            return
        try:
            policy = make_policy(PolicySnapshot.from_bytes(message.data.tobytes()), self._encoder, self._backend)
            policy.check(self._spec)
        except ValueError as error:
            refuse(self._node, f"{self._prefix}learner/policy", f"version {message.version}: {error}")
            return
        self._policy = policy
        self._insertion.hear()
        if self._learner_session and message.session != self._learner_session:
            text = "the learner was restarted; sending again what it has not acknowledged"
            log(self._node, INFO, text, throttle=1.0)
            self._insertion.resend()
        self._learner_session = message.session
        self._policy_version = message.version
        self._updates = message.updates
        self._trained = message.env_steps_trained
        self._next_update_at = message.next_update_at

    def _listen(self) -> Subscription:
        return self._node.create_subscription(
            PolicyParameters, f"{self._prefix}learner/policy", self._on_policy, LATCHED
        )

    def _missing_updates(self, count: int) -> str:
        """What a policy that has been trained enough is waited for, and what is there instead."""
        if not self._client.service_is_ready():
            return f"a policy after {count} updates: {self._client.srv_name} is not there; is the learner running?"
        if not self._insertion.connected:
            return f"a policy after {count} updates: the learner has not answered yet"
        return f"a policy after {count} updates: the newest has {self._updates}"

    def _wait(self, condition: Callable[[], bool], what: Callable[[], str]) -> None:
        notice = time.monotonic() + _NOTICE_PERIOD

        def ready() -> bool:
            self.pump()
            return condition()

        while not self._executor.spin_until(ready, 0.2):
            self._check()
            if time.monotonic() >= notice:
                notice = time.monotonic() + _NOTICE_PERIOD
                log(self._node, WARN, f"waiting for {what()}")
                # The learner's newest policy is latched: hear it again, in case what we have is not from there.
                self._node.destroy_subscription(self._subscription)
                self._subscription = self._listen()
