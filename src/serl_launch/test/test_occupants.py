# SPDX-License-Identifier: Apache-2.0
"""A graph does not start beside another one whose nodes have the same names."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serl_launch.clients.action_call import ActionCall
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError, DomainTakenError
from serl_launch.occupants import refuse_doubles

pytestmark = pytest.mark.graph


@pytest.fixture
def plan_of(plan: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda attributes: plan(f'<node pkg="robot" exec="driver" {attributes}/>')


def test_a_node_that_runs_already_is_named(
    ros_domain: int, processes: Any, plan_of: Callable[[str], Any], wait_until: Callable[..., None]
) -> None:
    refuse_doubles(plan_of('name="actor"'))  # nobody is there
    actor = processes.start(sys.executable, Path(__file__).with_name("stand_in_actor.py"), "goal")
    wait_until(lambda: "is up" in actor.output())
    with pytest.raises(DomainTakenError, match=f"/actor: running in ROS domain {ros_domain} already"):
        refuse_doubles(plan_of('name="actor"'))
    refuse_doubles(plan_of('name="actor" namespace="left"'))
    refuse_doubles(plan_of('name="another"'))


def test_an_actor_takes_no_goal_of_another_graph(
    ros_domain: int, processes: Any, wait_until: Callable[..., None]
) -> None:
    from serl_interfaces.action import Train

    def goal(graph_id: str) -> Train.Goal:
        return Train.Goal(graph_id=graph_id, max_env_steps=0)  # what is taken fails at once

    code = "from serl_training.actor_node import main; main()"
    parameters = ("--ros-args", "-p", "task:=pick_cube", "-p", "graph_id:=ours")
    actor = processes.start(sys.executable, "-c", code, *parameters)
    with Client() as client:
        for graph_id, taken in (("theirs", False), ("ours", True), ("", True)):
            call = ActionCall(client, Train, "train")
            assert client.spin_until(call.server_is_ready, 30.0), actor.output()
            if taken:
                result = call.run(goal(graph_id), on_feedback=lambda _: None, tick=lambda: None)
                assert result.termination_reason == "failed"
            else:
                with pytest.raises(CommandError, match="/train refused the goal: the goal is for graph 'theirs'"):
                    call.run(goal(graph_id), on_feedback=lambda _: None, tick=lambda: None)
                wait_until(lambda: "refused, the goal is for graph 'theirs'" in actor.output())
