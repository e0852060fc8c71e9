# SPDX-License-Identifier: Apache-2.0
"""Actor and learner of different graphs that meet in one domain leave each other alone."""

from typing import Any

import numpy as np
import pytest
from serl_rl.ingest import InsertResult, Totals
from serl_rl.spec import TransitionSpec
from serl_ros.execution.executor import FastExecutor
from serl_ros.qos import LATCHED
from serl_training.link.graph_id import belong_together
from serl_training.link.graph_insertion_service import InsertionService
from serl_training.link.graph_learner_link import GraphLearnerLink
from serl_training.link.learner_link import JobFailed

from serl_interfaces.msg import PolicyParameters

SPEC = TransitionSpec({"state": ((3,), np.float32)}, 2)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [("a", "a", True), ("a", "b", False), ("", "b", True), ("a", "", True), ("", "", True)],
)
def test_who_has_no_identifier_takes_part_in_any_graph(one: str, other: str, together: bool) -> None:
    assert belong_together(one, other) is together


@pytest.mark.graph
def test_the_learner_of_another_graph_takes_nothing_and_gives_nothing(ros: Any) -> None:
    stored: list[int] = []

    def insert(_actor: str, _session: str, first: int, count: int, _data: memoryview) -> InsertResult:
        stored.append(count)
        return InsertResult(first + count, count)

    refusals: list[str] = []
    learner = ros.node("learner")
    service = InsertionService(learner, insert, Totals, refusals.append, "theirs")
    publisher = learner.create_publisher(PolicyParameters, "learner/policy", LATCHED)
    publisher.publish(PolicyParameters(session="s", graph_id="theirs", version=1, data=b"no policy"))

    import rclpy

    node = rclpy.create_node("actor", context=ros.context)
    executor = FastExecutor(context=ros.context)
    executor.add_node(node)

    def serve() -> None:
        ros.executor.spin_once(timeout_sec=0.02)

    client = GraphLearnerLink(
        node, executor, spec=SPEC, actor_id="a", graph_id="ours", max_lead=0, max_backlog=10, check=serve
    )
    with pytest.raises(JobFailed, match=r"refused transitions.*graph 'ours', this is graph 'theirs'"):
        client.connect()
    assert refusals
    assert stored == []
    assert client.policy_version == 0
    del service
    executor.shutdown()
    node.destroy_node()
