# SPDX-License-Identifier: Apache-2.0
"""The learner's end of the link: the service `learner/insert`, for whatever stores transitions."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from serl_config.software import software
from serl_config.text import printable
from serl_rl.ingest import InsertResult, Totals
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.journal import JournalError, JournalLost
from serl_ros.log import WARN, log

from serl_interfaces.srv import InsertTransitions
from serl_training.link.graph_id import belong_together, mismatch

_LONGEST_ID = 200  # characters


class InsertionService:
    """Serves `learner/insert` for whatever stores transitions."""

    def __init__(
        self,
        node: Node,
        insert: Callable[[str, str, int, int, memoryview], InsertResult],
        totals: Callable[[], Totals],
        refused: Callable[[str], None],
        graph_id: str = "",
        accepted: Callable[[], None] = lambda: None,
        spec: TransitionSpec | None = None,
    ) -> None:
        """Begin to serve.

        Args:
            node: that serves.
            insert: stores a chunk, as `serl_rl.ingest.Ingest.insert` does.
            totals: says what is stored.
            refused: told why something was refused.
            graph_id: of the graph; what comes from another one is refused. Empty: takes everything.
            accepted: called when something is stored again after something was refused.
            spec: of the transitions; who says that theirs are others is refused. None: any.
        """
        self._node, self._spec = node, spec
        self._insert, self._totals, self._refused, self._graph_id = insert, totals, refused, graph_id
        self._accepted, self._is_refusing = accepted, False
        self._service = node.create_service(InsertTransitions, "learner/insert", self._serve)

    def _serve(
        self, request: InsertTransitions.Request, response: InsertTransitions.Response
    ) -> InsertTransitions.Response:
        if not belong_together(request.graph_id, self._graph_id):
            response.message = f"they are of {mismatch(request.graph_id, self._graph_id)}"
            self._refuse(request, response.message)
            return response
        try:
            for name, text in (("actor_id", request.actor_id), ("session_id", request.session_id)):
                if len(text) > _LONGEST_ID or not text.isprintable():
                    raise DataError(name, f"at most {_LONGEST_ID} printable characters", f"{text[:40]!r} ({len(text)})")
            self._compare(request)
            result = self._insert(
                request.actor_id, request.session_id, request.first_sequence, request.count, memoryview(request.data)
            )
        except (DataError, JournalError) as error:
            self._refuse(request, str(error))
            response.message = printable(error)
            response.retry = isinstance(error, JournalError) and not isinstance(error, JournalLost)
            return response
        if result.stored and self._is_refusing:
            self._is_refusing = False
            self._accepted()
        totals = self._totals()
        response.success = True
        response.software = software()
        response.message = result.message
        response.next_expected = result.next_expected
        response.env_steps = totals.env_steps
        response.demonstrations = totals.demonstrations
        response.episodes = totals.largest_episode
        return response

    def _compare(self, request: InsertTransitions.Request) -> None:
        """Look whether an actor sends what this learner takes, and whether it runs the same software.

        Raises:
            DataError: its specification is another one; says in what.
        """
        if request.software and request.software != software():
            who = f"'{printable(request.actor_id, 40)}' runs SERL {printable(request.software, 80)}"
            text = f"{who}, this learner {software()}; have both run the same"
            log(self._node, WARN, text, throttle=60.0)
        if self._spec is None or not request.specification:
            return
        theirs = TransitionSpec.from_json(request.specification)
        if not self._spec.agrees(theirs):
            raise DataError(
                f"specification {theirs.fingerprint} of the actor",
                f"that of the learner, {self._spec.fingerprint}",
                f"another one: {self._spec.difference(theirs)}",
            )

    def _refuse(self, request: InsertTransitions.Request, reason: str) -> None:
        self._is_refusing = True
        self._refused(f"transitions of '{printable(request.actor_id, 40)}' refused: {reason}")
