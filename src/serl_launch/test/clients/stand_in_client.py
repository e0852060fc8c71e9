# SPDX-License-Identifier: Apache-2.0
"""Sends a goal to the `train` action and says what comes of it, for tests that stop this process.

usage: stand_in_client.py
"""

import math

from serl_launch.clients import action_call
from serl_launch.clients.action_call import ActionCall
from serl_launch.clients.client_node import Client
from unique_identifier_msgs.msg import UUID

from serl_interfaces.action import Train


def main() -> None:
    """Send one goal."""
    # The test's peers are forgotten after 1 s.
    action_call._SILENCE = 0.8
    action_call._ASK_AGAIN = 0.5
    action_call._NOTICE = 1.0
    action_call._LOST = 4.0
    goal_id, accept_timeout = action_call.new_goal_id(), action_call.ACCEPT_TIMEOUT
    while True:
        try:
            print(f"result {_ask(goal_id, accept_timeout)}", flush=True)
        except action_call.ContactLost:
            accept_timeout = math.inf
        else:
            return


def _ask(goal_id: UUID, accept_timeout: float) -> str:
    with Client() as client:
        call = ActionCall(
            client, Train, "train", goal_id=goal_id, report=lambda line: print(f"report: {line}", flush=True)
        )
        client.spin_until(call.server_is_ready, 20.0)
        present = True

        def tick() -> None:
            nonlocal present
            if call.server_is_ready() != present:
                present = not present
                print("found" if present else "lost", flush=True)

        result = call.run(
            Train.Goal(),
            on_feedback=lambda _: print("feedback", flush=True),
            tick=tick,
            accept_timeout=accept_timeout,
        )
        return str(result.termination_reason)


if __name__ == "__main__":
    main()
