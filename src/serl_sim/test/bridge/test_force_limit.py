# SPDX-License-Identifier: Apache-2.0
"""A peg that is pushed onto its board: the limit of force of the arm controller, by what the bridge measures."""

import math
import sys
from array import array

import pytest

pytest.importorskip("rclpy")
from geometry_msgs.msg import WrenchStamped
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10

pytest.importorskip("serl_interfaces.msg", reason="the workspace is not built")
from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, SafetyStatus
from serl_interfaces.srv import ResetWorld

pytestmark = pytest.mark.graph


class Pusher:
    """A policy that pushes down, in lockstep, whatever comes of it."""

    def __init__(self, ros, processes, *limits):
        parameters = ("task:=insert_peg", *limits)
        words = [word for each in parameters for word in ("-p", each)]
        for module, more in (
            ("serl_sim.mujoco_bridge_node", []),
            ("serl_robots.arm_controller_node", ["-p", "lockstep:=true"]),
        ):
            processes.start(sys.executable, "-c", f"from {module} import main; main()", "--ros-args", *words, *more)
        self.ros, self.node = ros, ros.node("pusher")
        self.states, self.forces, self.safety = [], [], []
        node = self.node
        node.create_subscription(ArmState, "arm/state", self.states.append, RELIABLE_10)
        node.create_subscription(WrenchStamped, "wrench", self._on_wrench, RELIABLE_10)
        node.create_subscription(SafetyStatus, "arm/safety", self.safety.append, LATCHED)
        self.actions = node.create_publisher(ActionCommand, "policy/action", RELIABLE_1)
        episodes = node.create_publisher(EpisodeStatus, "episode", LATCHED)
        reset = node.create_client(ResetWorld, "sim/reset")
        ros.spin_until(
            lambda: reset.service_is_ready() and self.states and self.actions.get_subscription_count(), timeout=60.0
        )
        episodes.publish(EpisodeStatus(episode=1, mode=EpisodeStatus.MODE_TRAINING))
        future = reset.call_async(ResetWorld.Request(seed=3, episode=1))
        ros.spin_until(lambda: future.done() and self.states[-1].header.stamp == future.result().stamp)

    def _on_wrench(self, message):
        force = message.wrench.force
        self.forces.append(math.hypot(force.x, force.y, force.z))

    def push(self, step):
        """One step down, until the world has moved; whether it has."""
        before = self.states[-1].header.stamp
        message = ActionCommand(episode=1, step=step, active=True, action=array("f", (0.0, 0.0, -1.0)))
        message.header.stamp = before
        turns = 0

        def moved():
            nonlocal turns
            turns += 1
            if turns % 10 == 1:
                self.actions.publish(message)  # again, as an actor does
            return self.states[-1].header.stamp != before or self.safety[-1].estop

        self.ros.spin_until(moved, timeout=30.0)

    def told(self):
        """What the controller tells of its limits after all that was pushed: its status comes at a rate of its own."""
        seen = len(self.safety)
        # the first may have been under way
        self.ros.spin_until(lambda: len(self.safety) > seen + 1, timeout=30.0, what="the status after the last push")
        return self.safety[-1]


def acted(safety, name):
    return dict(zip(safety.limit_names, safety.limit_counts, strict=True))[name]


LIMIT = 15.0  # [N]


def test_a_peg_that_is_pushed_onto_its_board_gives_way_at_the_limit(ros, processes):
    pusher = Pusher(ros, processes, f"limits.max_force:={LIMIT}", "limits.overload_stop:=10.0")
    for step in range(25):
        pusher.push(step)
    state, safety = pusher.states[-1], pusher.told()
    assert acted(safety, "force") > 0 and not safety.estop
    assert max(pusher.forces) > LIMIT > 0.5 * max(pusher.forces[-10:])
    assert state.target_pose.position.z > state.tcp_pose.position.z - 0.02


def test_one_that_is_pushed_far_harder_is_stopped_until_somebody_releases_it(ros, processes):
    pusher = Pusher(ros, processes, f"limits.max_force:={LIMIT}", "limits.overload_stop:=1.1")
    for step in range(25):
        if not pusher.safety[-1].estop:
            pusher.push(step)
    assert pusher.safety[-1].estop and "N at the tool, at most 15 N" in pusher.safety[-1].reason


def test_without_a_limit_the_same_push_goes_on_and_nobody_measures_it(ros, processes):
    pusher = Pusher(ros, processes)
    for step in range(25):
        pusher.push(step)
    assert acted(pusher.told(), "force") == 0 and pusher.forces == []
    assert pusher.states[-1].target_pose.position.z < pusher.states[-1].tcp_pose.position.z - 0.02
