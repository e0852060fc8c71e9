# SPDX-License-Identifier: Apache-2.0
"""The bridge as its neighbours see it: a process behind topics, services and actions."""

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from serl_ros.images import rgb_from_message
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import MarkerArray

BRIDGE = (sys.executable, "-c", "from serl_sim.mujoco_bridge_node import main; main()", "--ros-args")
PERIOD_NS = 100_000_000

try:
    from control_msgs.action import FollowJointTrajectory, ParallelGripperCommand
    from tf2_msgs.msg import TFMessage

    from serl_interfaces.msg import WorldState
    from serl_interfaces.srv import ResetWorld, StepWorld
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)


def nanoseconds(stamp):
    return stamp.sec * 1_000_000_000 + stamp.nanosec


class Client:
    """A tiny stand-in for the arm controller and everybody else."""

    def __init__(self, ros):
        self.ros = ros
        self.node = ros.node("client")
        self.states, self.truths, self.clocks, self.diagnostics = [], [], [], []
        self.node.create_subscription(JointState, "joint_states", self.states.append, 100)
        self.node.create_subscription(WorldState, "truth", self.truths.append, 100)
        self.node.create_subscription(Clock, "/clock", self.clocks.append, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.pose = self.node.create_publisher(PoseStamped, "target_pose", 1)
        self.width = self.node.create_publisher(Float64MultiArray, "gripper_controller/commands", 1)
        self.trajectory = self.node.create_publisher(JointTrajectory, "joint_trajectory_controller/joint_trajectory", 1)
        self.clients = {
            name: self.node.create_client(kind, name)
            for name, kind in (("sim/reset", ResetWorld), ("sim/step", StepWorld), ("sim/pause", SetBool))
        }
        publishers = (self.pose, self.width, self.trajectory)
        ros.spin_until(
            lambda: (
                all(publisher.get_subscription_count() for publisher in publishers)
                and all(client.service_is_ready() for client in self.clients.values())
                and self.states
            ),
            what="the bridge",
        )

    def _on_diagnostics(self, message):
        self.diagnostics += [status for status in message.status if status.name == "mujoco_bridge: world"]

    def call(self, name, **fields):
        client = self.clients[name]
        future = client.call_async(client.srv_type.Request(**fields))
        self.ros.spin_until(future.done, what=name)
        return future.result()

    def reset(self, seed, episode):
        reply = self.call("sim/reset", seed=seed, episode=episode)
        assert reply.success, reply.message
        return self.wait_for(nanoseconds(reply.stamp))

    def wait_for(self, stamp_ns):
        """Return joint state and truth of a moment."""

        def find(messages):
            return next((m for m in messages if nanoseconds(m.header.stamp) == stamp_ns), None)

        self.ros.spin_until(lambda: find(self.states) and find(self.truths), what=f"the state at {stamp_ns / 1e9} s")
        return find(self.states), find(self.truths)

    def command(self, position, width, stamp):
        message = PoseStamped()
        message.header.stamp = stamp
        message.header.frame_id = "panda_link0"
        message.pose.position.x, message.pose.position.y, message.pose.position.z = position
        message.pose.orientation.x, message.pose.orientation.w = 1.0, 0.0
        self.width.publish(Float64MultiArray(data=[width]))
        self.pose.publish(message)

    def step(self, position, width):
        stamp = self.truths[-1].header.stamp
        self.command(position, width, stamp)
        return self.wait_for(nanoseconds(stamp) + PERIOD_NS)

    def rest(self):
        """Wait until the world stands, and the newest of its states is there: it comes again, and once more.

        Topics, services and actions have no common order: who has a result need not have the state that it is of, but
        perhaps two from before the world moved. What comes three times from now on spans longer than any of that.
        """
        count = len(self.truths)

        def stands():
            new = self.truths[count:]
            return len(new) >= 3 and all(truth.header.stamp == new[-1].header.stamp for truth in new[-3:])

        self.ros.spin_until(stands, what="a state of the world that comes again")

    def stays(self):
        """Let half a second pass; whether the world stood still."""
        before = nanoseconds(self.truths[-1].header.stamp)
        count = len(self.truths)
        self.ros.spin_until(lambda: len(self.truths) >= count + 2, what="the standing state, repeated")
        return nanoseconds(self.truths[-1].header.stamp) == before


@pytest.fixture
def start(ros, processes):
    def start(**parameters):
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        process = processes.start(*BRIDGE, *words)
        return Client(ros), process

    return start


def test_an_episode_in_lockstep_repeats_bit_for_bit(start):
    client, process = start()
    rng = np.random.default_rng(0)
    commands = [(rng.uniform((0.4, -0.1, 0.05), (0.6, 0.1, 0.2)).tolist(), rng.uniform(0, 0.08)) for _ in range(10)]

    def play(episode):
        states = [client.reset(5, episode)] + [client.step(*command) for command in commands]
        assert [(truth.episode, truth.step) for _, truth in states] == [(episode, k) for k in range(11)]
        stamps = [nanoseconds(truth.header.stamp) for _, truth in states]
        assert all(later - earlier == PERIOD_NS for earlier, later in pairwise(stamps))
        return stamps[0], [
            (state.position.tobytes(), state.velocity.tobytes(), state.effort.tobytes(), repr(truth.poses))
            for state, truth in states
        ]

    first_stamp, first = play(1)
    second_stamp, second = play(2)
    assert first == second
    assert second_stamp > first_stamp
    assert client.truths[-1].names == ["tcp", "cube"]
    assert client.states[-1].name == [f"panda_joint{i}" for i in range(1, 8)] + [
        "panda_finger_joint1",
        "panda_finger_joint2",
    ]
    client.ros.spin_until(lambda: client.clocks and client.clocks[-1].clock == client.truths[-1].header.stamp)
    times = [nanoseconds(clock.clock) for clock in client.clocks]
    assert times == sorted(times)
    assert client.call("sim/reset", seed=-1, episode=3).message.startswith("seed")
    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_a_command_that_is_none_is_refused_and_the_world_says_what_it_waits_for(start):
    client, process = start()
    client.reset(0, 1)
    stamp = client.truths[-1].header.stamp
    client.command((math.nan, 0.0, 0.2), 0.08, stamp)
    assert client.stays()
    client.ros.spin_until(lambda: process.output().count("command refused: target_pose") == 1, what="the log line")
    client.command((math.nan, 0.0, 0.2), 0.08, stamp)
    client.ros.spin_until(lambda: any("waits for target_pose" in status.message for status in client.diagnostics))
    assert process.output().count("command refused: target_pose") == 1
    assert client.step((0.5, 0.0, 0.2), 0.08)[1].step == 1
    client.command((0.5, 0.0, 0.2), 0.08, stamp)  # of the state before
    assert client.stays()
    assert client.step((0.5, 0.0, 0.2), 0.08)[1].step == 2
    client.trajectory.publish(JointTrajectory(joint_names=["panda_joint1"]))
    client.ros.spin_until(lambda: "expected the joints panda_joint1, panda_joint2" in process.output())
    assert client.stays()


def test_pause_and_step(start):
    client, _ = start()
    _, before = client.reset(0, 1)
    assert client.call("sim/pause", data=True).success
    client.command((0.5, 0.0, 0.2), 0.0, before.header.stamp)
    assert client.stays()
    assert client.call("sim/step", steps=3).success
    client.ros.spin_until(lambda: client.truths[-1].step == 3)
    assert client.call("sim/pause", data=False).success
    assert client.step((0.5, 0.0, 0.2), 0.0)[1].step == 4


def test_many_steps_let_others_have_their_turn(start):
    client, _ = start()
    client.reset(0, 1)
    many = client.clients["sim/step"].call_async(StepWorld.Request(steps=10_000))
    client.ros.spin_until(lambda: client.truths[-1].step >= 20)
    assert client.call("sim/pause", data=True).success
    assert "not done yet" in client.call("sim/step", steps=1).message
    assert not many.done()
    client.reset(1, 2)
    client.ros.spin_until(many.done)
    assert not many.result().success
    assert "sim/reset came after" in many.result().message
    assert client.call("sim/step", steps=200).success
    client.ros.spin_until(lambda: client.truths[-1].step == 200)


def test_joint_trajectories_and_actions_lead_the_arm(start):
    client, _ = start()
    state, _ = client.reset(0, 1)
    joints, positions = state.name[:7], np.array(state.position[:7])

    def trajectory(seconds, goal):
        point = JointTrajectoryPoint(
            positions=goal.tolist(), time_from_start=Duration(sec=0, nanosec=int(seconds * 1e9))
        )
        return JointTrajectory(joint_names=joints, points=[point])

    client.trajectory.publish(trajectory(0.1, positions + 0.01))
    client.ros.spin_until(lambda: client.truths[-1].step == 1)
    assert client.stays()

    follow = ActionClient(client.node, FollowJointTrajectory, "joint_trajectory_controller/follow_joint_trajectory")
    client.ros.spin_until(follow.server_is_ready)
    goal = positions + np.array([0.2, 0, 0, 0, 0, 0, 0])
    result = send(client, follow, FollowJointTrajectory.Goal(trajectory=trajectory(0.5, goal)))
    assert result.error_code == FollowJointTrajectory.Result.SUCCESSFUL, result.error_string
    client.ros.spin_until(lambda: np.abs(np.array(client.states[-1].position[:7]) - goal).max() < 0.02)
    client.rest()
    assert client.truths[-1].step >= 6

    grip = ActionClient(client.node, ParallelGripperCommand, "gripper_controller/gripper_cmd")
    client.ros.spin_until(grip.server_is_ready)
    command = ParallelGripperCommand.Goal(command=JointState(position=[0.01]))
    result = send(client, grip, command)
    assert (result.reached_goal, result.stalled) == (True, False)
    assert result.state.position[0] == pytest.approx(0.01, abs=0.001)
    client.rest()
    assert client.stays()


def send(client, action, goal):
    accepted = action.send_goal_async(goal)
    client.ros.spin_until(accepted.done)
    assert accepted.result().accepted
    result = accepted.result().get_result_async()
    client.ros.spin_until(result.done, what="the action's result")
    action.destroy()
    return result.result().result


def test_what_a_person_looks_at_is_there_when_somebody_looks(start):
    client, _ = start(camera_width=64, camera_height=48)
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    seen = {}

    def listen(kind, topic, qos):
        client.node.create_subscription(kind, topic, lambda message: seen.setdefault(topic, []).append(message), qos)

    listen(String, "robot_description", latched)
    listen(TFMessage, "/tf_static", latched)
    listen(TFMessage, "/tf", 10)
    listen(Image, "front/color/image_raw", 10)
    listen(CompressedImage, "wrist/color/image_raw/compressed", 10)
    listen(CameraInfo, "wrist/color/camera_info", 10)
    listen(MarkerArray, "markers", 1)
    client.reset(0, 1)
    client.ros.spin_until(lambda: len(seen) == 7, what=f"all topics, of which came: {', '.join(seen)}")
    assert seen["robot_description"][0].data.startswith("<?xml")
    fixed = {transform.child_frame_id: transform for transform in seen["/tf_static"][0].transforms}
    assert fixed["wrist_color_optical_frame"].header.frame_id == "panda_hand"
    assert fixed["panda_hand_tcp"].transform.translation.z == pytest.approx(0.1034)
    assert {transform.child_frame_id for transform in seen["/tf"][-1].transforms} >= {"panda_link1", "panda_link7"}
    info = seen["wrist/color/camera_info"][-1]
    assert (info.width, info.height, info.header.frame_id) == (64, 48, "wrist_color_optical_frame")
    assert {marker.ns for marker in seen["markers"][-1].markers} == {"cube"}
    assert rgb_from_message(seen["wrist/color/image_raw/compressed"][-1]).shape == (48, 64, 3)
    _, truth = client.step((0.5, 0.0, 0.2), 0.08)
    client.ros.spin_until(lambda: seen["front/color/image_raw"][-1].header.stamp == truth.header.stamp)
    assert len(seen["front/color/image_raw"][-1].data) == 64 * 48 * 3


def test_a_paced_world_runs_by_itself(start):
    client, process = start(real_time_factor=2.0)
    reply = client.call("sim/reset", seed=0, episode=1)
    client.ros.spin_until(lambda: client.truths[-1].episode == 1 and client.truths[-1].step >= 5)
    stamps = [nanoseconds(truth.header.stamp) for truth in client.truths if truth.episode == 1]
    assert stamps[0] >= nanoseconds(reply.stamp)
    # A message may be lost on a busy machine; what arrives is in order and on the grid.
    assert all(later > earlier and (later - earlier) % 10_000_000 == 0 for earlier, later in pairwise(stamps))
    client.command((0.45, 0.0, 0.2), 0.08, client.truths[-1].header.stamp)
    client.ros.spin_until(lambda: abs(client.truths[-1].poses[0].position.x - 0.45) < 0.005)
    assert not client.call("sim/step", steps=1).success
    assert client.call("sim/pause", data=True).success
    client.ros.spin_until(client.stays)
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("task:=pick_cub", "'pick_cub' is not one of "),
        ("real_time_factor:=-1.0", "real_time_factor"),
        ("state_rate:=.nan", "state_rate"),
        ("headless:=false", "display"),
        ("seed:=often", "seed"),
    ],
)
def test_a_parameter_that_cannot_be_used_ends_the_node_with_one_line(processes, monkeypatch, parameter, message):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    process = processes.start(*BRIDGE, "-p", parameter)
    assert process.wait() == 2
    assert message in process.output()
    assert "Traceback" not in process.output()
