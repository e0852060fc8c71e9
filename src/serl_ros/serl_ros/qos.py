# SPDX-License-Identifier: Apache-2.0
"""The quality-of-service profiles of the topic table in docs/architecture.md."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(
    depth: int,
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


RELIABLE_1 = _profile(1)
"""Commands and states of which only the newest counts."""

RELIABLE_10 = _profile(10)
"""One message for each control step."""

RELIABLE_50 = _profile(50)
"""Rare events that must all arrive: episode ends, metrics."""

LOOP_1 = _profile(1, ReliabilityPolicy.BEST_EFFORT)
"""Our own subscriptions in the control loop, where only the newest message counts.

The publishers there are reliable, so that any subscription matches them. A best-effort one is served without heartbeats
and acknowledgements, which cost as much as the messages. What gets lost is repeated: a world in lockstep that stands
still repeats its state, an actor without an answer its action, and what answers them is repeated with them.
"""

LOOP_10 = _profile(10, ReliabilityPolicy.BEST_EFFORT)
"""Our own subscriptions in the control loop to one message for each control step, with a short queue."""

LATCHED = _profile(1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""The newest value, also for those who join later."""

SENSOR = _profile(1, ReliabilityPolicy.BEST_EFFORT)
"""Camera images: the newest, or none."""
