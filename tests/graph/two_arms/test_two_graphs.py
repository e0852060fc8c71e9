# SPDX-License-Identifier: Apache-2.0
"""Two graphs in two namespaces of one domain: nothing of one reaches the other."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

try:
    from serl_tasks.messages import nanoseconds
    from serl_training.env.graph_env import GraphEnv
    from tf2_msgs.msg import TFMessage

    import serl_sim
    from serl_interfaces.msg import ArmState, ExecutedAction, SafetyStatus
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

ARMS = ("left", "right")
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_two_arms_in_one_domain_do_not_touch_each_other(ros, processes):
    arguments = ("task:=pick_cube", "learning_nodes:=false", "teleop:=none")
    for name in ARMS:
        words = ("launch", "sim.launch.xml", f"namespace:={name}", *arguments)
        processes.start(sys.executable, "-m", "serl_cli", *words)
    node = ros.node()
    heard = {topic: [] for topic in ("/clock", "/tf", "/tf_static", "/diagnostics")}
    for topic, kind, qos in (
        ("/clock", Clock, 100),
        ("/tf", TFMessage, 100),
        ("/tf_static", TFMessage, LATCHED),
        ("/diagnostics", DiagnosticArray, 100),
        *((f"/{name}/clock", Clock, 100) for name in ARMS),
        *((f"/{name}/arm/state", ArmState, 100) for name in ARMS),
        *((f"/{name}/arm/safety", SafetyStatus, LATCHED) for name in ARMS),
    ):
        node.create_subscription(kind, topic, heard.setdefault(topic, []).append, qos)

    envs = {name: GraphEnv("pick_cube", namespace=name, reset_timeout=60.0) for name in ARMS}
    expected = {name: serl_sim.make("pick_cube") for name in ARMS}
    try:
        for seed, name in enumerate(ARMS):
            np.testing.assert_array_equal(
                envs[name].reset(seed=seed)[0]["state"], expected[name].reset(seed=seed)[0]["state"]
            )
        rng = np.random.default_rng(0)

        def step(name):
            action = rng.uniform(-1.0, 1.0, 4).astype(np.float32)
            ours, theirs = envs[name].step(action), expected[name].step(action)
            # said first: who else led the arm explains another state
            assert ours[4]["source"] == ExecutedAction.SOURCE_POLICY
            assert ours[4]["limits"] == theirs[4]["limits"]
            np.testing.assert_array_equal(ours[4]["executed_action"], theirs[4]["executed_action"])
            np.testing.assert_array_equal(ours[0]["state"], theirs[0]["state"])
            assert ours[1:4] == theirs[1:4]
            ros.executor.spin_once(0.0)

        for name in ("left", "right", "left") * 10:  # one is faster
            step(name)

        stop = node.create_client(SetBool, "/left/arm/estop")
        ros.spin_until(stop.service_is_ready)
        answer = stop.call_async(SetBool.Request(data=True))
        ros.spin_until(answer.done)
        assert answer.result().success
        for _ in range(5):
            step("right")
        assert not envs["right"].estop
        envs["left"].step(np.zeros(4, np.float32))
        assert envs["left"].estop

        def statuses():
            return {status.name: status.hardware_id for message in heard["/diagnostics"] for status in message.status}

        nodes = ("mujoco_bridge: world", "arm_controller: safety")
        ros.spin_until(lambda: statuses().keys() >= {f"/{name}/{each}" for name in ARMS for each in nodes})
        assert statuses()["/left/arm_controller: safety"] == "/left/panda"
        assert all(status.startswith(("/left/", "/right/")) for status in statuses())
        ros.spin_until(lambda: all(heard[topic] for topic in heard if topic != "/clock"), what="all topics")
        for name in ARMS:
            # the newest times come to rest at that of the world, which stands still now
            world = nanoseconds(heard[f"/{name}/arm/state"][-1].header.stamp)
            ros.spin_until(
                lambda name=name, world=world: (
                    nanoseconds(heard[f"/{name}/clock"][-1].clock)
                    == nanoseconds(heard[f"/{name}/arm/safety"][-1].header.stamp)
                    >= world
                ),
                what=f"the time of the world in {name}, from the clock and from a node",
            )
    finally:
        for env in (*envs.values(), *expected.values()):
            env.close()

    assert not heard["/clock"]
    for name in ARMS:
        times = [nanoseconds(message.clock) for message in heard[f"/{name}/clock"]]
        assert all(earlier <= later for earlier, later in pairwise(times))
        assert heard[f"/{name}/arm/state"][-1].header.frame_id == f"{name}/panda_link0"
    frames = {
        (transform.header.frame_id, transform.child_frame_id)
        for topic in ("/tf", "/tf_static")
        for message in heard[topic]
        for transform in message.transforms
    }
    trees = {name: {edge for edge in frames if all(frame.startswith(f"{name}/") for frame in edge)} for name in ARMS}
    assert trees["left"] | trees["right"] == frames
    for name in ARMS:
        children = {child for _, child in trees[name]}
        assert {f"{name}/panda_link0", f"{name}/wrist_color_optical_frame"} <= children
        assert {parent for parent, _ in trees[name]} - children == {f"{name}/world"}, "one root"
