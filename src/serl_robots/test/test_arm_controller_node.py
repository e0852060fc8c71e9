# SPDX-License-Identifier: Apache-2.0
"""The node among others: a pretended bridge moves a pretended arm; everything else is real."""

import os
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_robots.kinematics import Kinematics
from serl_robots.pose import Pose
from serl_robots.robot import load_robot

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from serl_robots.arm_controller_node import ArmControllerNode
from serl_robots.config import fields
from serl_robots.limits import LIMIT_NAMES, SafetyLimits
from serl_ros.parameters import ParameterError
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from serl_interfaces.action import MoveTo
from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, ExecutedAction, SafetyStatus

pytestmark = pytest.mark.graph

PERIOD_NS = 100_000_000


class Bridge:
    """Plays the world: takes the arm to what is commanded, and says where it is."""

    def __init__(self, ros: Any, *, lockstep: bool) -> None:
        self.robot = load_robot("panda")
        self.kinematics = Kinematics(self.robot)
        self.lockstep = lockstep
        self.node = ros.node("bridge")
        self.joints = np.array(self.robot.configuration("home"))
        self.width = 0.04
        self.stamp_ns = PERIOD_NS
        self.log: list[tuple[str, Any]] = []
        self._pending_width: float | None = None
        self._pending_pose: PoseStamped | None = None
        node = self.node
        self.publisher = node.create_publisher(JointState, "joint_states", RELIABLE_10)
        node.create_subscription(PoseStamped, "target_pose", self._on_pose, RELIABLE_1)
        node.create_subscription(Float64MultiArray, "gripper_controller/commands", self._on_width, RELIABLE_1)
        node.create_subscription(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", self._on_trajectory, RELIABLE_1
        )
        if not lockstep:
            node.create_timer(0.01, lambda: self.publish(10_000_000))

    def publish(self, elapsed_ns: int = PERIOD_NS) -> None:
        self.stamp_ns += elapsed_ns
        message = JointState(name=list(self.robot.joints))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp_ns, 1_000_000_000)
        message.position = array("d", [*self.joints.tolist(), 0.5 * self.width, 0.5 * self.width])
        message.velocity = array("d", [0.1] * len(self.robot.joints))
        self.publisher.publish(message)

    def _on_width(self, message: Float64MultiArray) -> None:
        self.log.append(("width", message.data[0]))
        self._pending_width = message.data[0]
        self._go()

    def _on_pose(self, message: PoseStamped) -> None:
        self.log.append(("pose", message))
        self._pending_pose = message
        self._go()

    def _go(self) -> None:
        """Topics have no order among them: a command is complete when both halves are there."""
        if self._pending_width is None or self._pending_pose is None:
            return
        p, q = self._pending_pose.pose.position, self._pending_pose.pose.orientation
        self.width = self._pending_width
        self._pending_width = self._pending_pose = None
        goal = Pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        for _ in range(8):  # Newton's method for the inverse kinematics
            tcp = self.kinematics.tcp(self.joints)
            error = np.concatenate([goal.position - tcp.position, tcp.rotation_vector_to(goal)])
            jacobian = np.stack([self.kinematics.tcp_velocity(self.joints, row) for row in np.eye(7)], axis=1)
            self.joints = self.joints + np.linalg.pinv(jacobian) @ error
        if self.lockstep:
            self.publish()

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self.log.append(("joints", message))
        assert list(message.joint_names) == list(self.robot.arm_joints)
        assert message.points[0].time_from_start.nanosec == PERIOD_NS
        self.joints = np.array(message.points[0].positions)
        if self.lockstep:
            self.publish()


class Graph:
    """A controller, a bridge, and somebody who talks to the controller."""

    def __init__(self, ros: Any, *, lockstep: bool, start: bool = True, **parameters: Any) -> None:
        overrides = {
            "lockstep": lockstep,
            "limits.workspace_min": [0.25, -0.3, 0.02],
            "limits.workspace_max": [0.7, 0.3, 0.5],
            "limits.joint_state_timeout": 5.0,  # a busy machine may keep the bridge from its timer for a while
            **parameters,
        }
        self.controller = ros.add(
            ArmControllerNode(
                context=ros.context, parameter_overrides=[Parameter(name, value=v) for name, v in overrides.items()]
            )
        )
        self.ros = ros
        self.bridge = Bridge(ros, lockstep=lockstep)
        self.node = ros.node("somebody")
        self.states: list[ArmState] = []
        self.executed: list[ExecutedAction] = []
        self.safety: list[SafetyStatus] = []
        node = self.node
        node.create_subscription(ArmState, "arm/state", self.states.append, RELIABLE_10)
        node.create_subscription(ExecutedAction, "arm/executed", self.executed.append, RELIABLE_10)
        node.create_subscription(SafetyStatus, "arm/safety", self.safety.append, LATCHED)
        self.policy = node.create_publisher(ActionCommand, "policy/action", RELIABLE_1)
        self.teleop = node.create_publisher(ActionCommand, "teleop/action", RELIABLE_1)
        self.episode = node.create_publisher(EpisodeStatus, "episode", LATCHED)
        self.mover = ActionClient(node, MoveTo, "arm/move_to")
        topics = ["target_pose", "gripper_controller/commands", "joint_trajectory_controller/joint_trajectory"]
        ros.spin_until(lambda: all(self.controller.count_subscribers(topic) for topic in topics))
        ros.spin_until(lambda: all(node.count_subscribers(t) for t in ("policy/action", "teleop/action", "episode")))
        ros.spin_until(lambda: self.bridge.node.count_subscribers("joint_states") and self.safety)
        if start:
            ros.spin_until(lambda: node.count_publishers("arm/state"))
            self.bridge.publish()
            ros.spin_until(lambda: self.states)

    def close(self) -> None:
        """What destroying its node leaves behind."""
        self.mover.destroy()

    def act(self, step: int, *action: float, episode: int = 1) -> None:
        message = ActionCommand(episode=episode, step=step, active=True, action=array("f", action))
        self.policy.publish(message)

    def step(self, step: int, *action: float, episode: int = 1) -> ExecutedAction:
        """One control step in lockstep, up to the state that follows."""
        count = len(self.states)
        self.act(step, *action, episode=episode)
        self.ros.spin_until(lambda: len(self.states) > count and self.executed and self.executed[-1].step == step)
        return self.executed[-1]

    def call(self, service: type, name: str, request: Any) -> Any:
        client = self.node.create_client(service, name)
        self.ros.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self.ros.spin_until(future.done)
        return future.result()

    def move(self, feedback: Callable[[Any], None] | None = None, **goal: Any) -> Any:
        """Send a goal; the accepted handle."""
        self.ros.spin_until(self.mover.server_is_ready)
        future = self.mover.send_goal_async(MoveTo.Goal(**goal), feedback_callback=feedback)
        self.ros.spin_until(future.done)
        assert future.result().accepted
        return future.result()

    def result(self, handle: Any) -> MoveTo.Result:
        future = handle.get_result_async()
        self.ros.spin_until(future.done, timeout=20.0)
        return future.result().result


@pytest.fixture
def make_graph(ros: Any) -> Iterator[Callable[..., Graph]]:
    graphs: list[Graph] = []

    def make(**options: Any) -> Graph:
        graphs.append(Graph(ros, **options))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()


@pytest.fixture
def lockstep(make_graph: Callable[..., Graph]) -> Graph:
    return make_graph(lockstep=True)


@pytest.fixture
def paced(make_graph: Callable[..., Graph]) -> Graph:
    return make_graph(lockstep=False)


def test_a_control_step_in_lockstep(lockstep: Graph) -> None:
    before = lockstep.states[-1]
    executed = lockstep.step(0, 0.5, 0.0, 0.0, -1.0)
    assert (executed.episode, executed.step, executed.source) == (1, 0, ExecutedAction.SOURCE_POLICY)
    assert list(executed.action) == [0.5, 0.0, 0.0, -1.0]
    assert executed.header.stamp == before.header.stamp

    commands = dict(lockstep.bridge.log)
    assert len(lockstep.bridge.log) == 2 and commands["width"] == 0.0
    pose = commands["pose"]
    assert pose.header.frame_id == "panda_link0"
    assert pose.header.stamp == before.header.stamp
    assert pose.pose.position.x == pytest.approx(before.tcp_pose.position.x + 0.02)

    after = lockstep.states[-1]
    assert after.header.frame_id == "panda_link0"
    assert after.tcp_pose.position.x == pytest.approx(pose.pose.position.x, abs=1e-9)
    assert after.target_pose == pose.pose
    assert after.gripper_target == 0.0
    assert after.mode == SafetyStatus.MODE_POLICY
    assert list(after.joint_names) == list(lockstep.bridge.robot.arm_joints)
    assert np.array_equal(after.joint_positions, lockstep.bridge.joints)
    velocity = lockstep.bridge.kinematics.tcp_velocity(lockstep.bridge.joints, [0.1] * 7)
    linear, angular = after.tcp_velocity.linear, after.tcp_velocity.angular
    assert [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z] == velocity.tolist()


def test_many_steps_in_lockstep_stay_in_step(lockstep: Graph) -> None:
    for step in range(50):
        executed = lockstep.step(step, 0.1 if step % 2 else -0.1, 0.0, 0.0, 1.0)
        assert executed.step == step
    stamps = [state.header.stamp.sec * 10**9 + state.header.stamp.nanosec for state in lockstep.states]
    assert set(np.diff(stamps)) == {PERIOD_NS}


def test_a_person_takes_the_step_over(lockstep: Graph) -> None:
    lockstep.episode.publish(EpisodeStatus(episode=1, mode=EpisodeStatus.MODE_TRAINING, human_expected=True))
    answer = ActionCommand(episode=1, step=0, active=True, synchronous=True, action=array("f", [-1.0, 0.0, 0.0, 0.0]))
    lockstep.teleop.publish(answer)
    executed = lockstep.step(0, 1.0, 0.0, 0.0, 0.0)
    assert executed.source == ExecutedAction.SOURCE_HUMAN
    assert executed.action[0] == -1.0


@pytest.mark.parametrize("action", [[0.0] * 3, [float("nan")] * 4, [2.0, 0.0, 0.0, 0.0]])
def test_a_bad_action_is_answered_on_arm_safety(lockstep: Graph, action: list[float]) -> None:
    lockstep.act(0, *action)
    lockstep.ros.spin_until(lambda: lockstep.safety[-1].reason)
    status = lockstep.safety[-1]
    assert "policy/action refused: expected" in status.reason
    assert list(status.active_limits) == ["action"]
    assert dict(zip(status.limit_names, status.limit_counts, strict=True))["action"] == 1
    assert not lockstep.bridge.log


def test_a_late_joiner_gets_the_safety_status_with_every_limit(lockstep: Graph) -> None:
    late: list[SafetyStatus] = []
    lockstep.ros.node("late").create_subscription(SafetyStatus, "arm/safety", late.append, LATCHED)
    lockstep.ros.spin_until(lambda: late, timeout=3.0)
    assert list(late[0].limit_names) == list(LIMIT_NAMES)


def test_the_stop_latches_and_only_its_reset_releases_it(paced: Graph) -> None:
    assert paced.call(SetBool, "arm/estop", SetBool.Request(data=True)).success
    paced.ros.spin_until(lambda: paced.safety[-1].estop)
    assert paced.safety[-1].mode == SafetyStatus.MODE_ESTOP
    paced.ros.spin_until(lambda: "pose" in [name for name, _ in paced.bridge.log], what="the hold")

    refused = paced.call(SetBool, "arm/estop", SetBool.Request(data=False))
    assert not refused.success and "arm/reset_estop" in refused.message
    assert paced.safety[-1].estop

    paced.act(0, 1.0, 0.0, 0.0, 0.0)
    paced.ros.spin_until(lambda: paced.executed)
    assert paced.executed[-1].source == ExecutedAction.SOURCE_ESTOP
    assert list(paced.executed[-1].action)[:3] == [0.0, 0.0, 0.0]

    assert paced.call(Trigger, "arm/reset_estop", Trigger.Request()).success
    paced.ros.spin_until(lambda: not paced.safety[-1].estop)
    paced.act(1, 1.0, 0.0, 0.0, 0.0)
    paced.ros.spin_until(lambda: paced.executed[-1].source == ExecutedAction.SOURCE_POLICY)


def test_when_the_actor_dies_the_arm_holds(paced: Graph) -> None:
    paced.act(0, 1.0, 0.0, 0.0, 0.0)
    paced.ros.spin_until(lambda: paced.executed)
    moved = len(paced.bridge.log)
    paced.ros.spin_until(lambda: "no command for 0.25 s" in paced.safety[-1].reason)
    paced.ros.spin_until(lambda: len(paced.bridge.log) > moved)
    paced.ros.spin_until(lambda: len(paced.bridge.log) == moved + 2)
    hold = dict(paced.bridge.log)["pose"].pose.position
    tcp = paced.bridge.kinematics.tcp(paced.bridge.joints)
    assert [hold.x, hold.y, hold.z] == pytest.approx(tcp.position.tolist(), abs=1e-6)


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_move_to_a_named_configuration(make_graph: Callable[..., Graph], is_lockstep: bool) -> None:
    graph = make_graph(lockstep=is_lockstep)
    distances: list[float] = []
    handle = graph.move(lambda message: distances.append(message.feedback.distance_left), name="ready")
    result = graph.result(handle)
    assert result.success and result.termination_reason == "reached", result.message
    assert result.position_error < 0.02
    assert graph.bridge.joints == pytest.approx(graph.bridge.robot.configuration("ready"))
    assert {name for name, _ in graph.bridge.log} == {"joints"}
    assert {executed.source for executed in graph.executed} == {ExecutedAction.SOURCE_MOVE_TO}
    if not is_lockstep:
        assert distances and distances[0] > distances[-1]


def test_move_to_a_pose_and_on_with_the_policy_from_there(lockstep: Graph) -> None:
    pose = PoseStamped()
    pose.header.frame_id = "panda_link0"
    pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = 0.45, 0.1, 0.2
    pose.pose.orientation.x, pose.pose.orientation.w = 1.0, 0.0
    result = lockstep.result(lockstep.move(kind=MoveTo.Goal.KIND_POSE, pose=pose))
    assert result.success, result.message
    lockstep.step(0, 1.0, 0.0, 0.0, 0.0)
    assert lockstep.states[-1].target_pose.position.x == pytest.approx(0.49, abs=1e-3)


def test_a_move_can_be_canceled(paced: Graph) -> None:
    joints = JointState(name=list(paced.bridge.robot.arm_joints))
    joints.position = array("d", paced.bridge.robot.configuration("ready"))
    handle = paced.move(kind=MoveTo.Goal.KIND_JOINTS, joints=joints, velocity_scaling=0.1)
    paced.ros.spin_until(lambda: len(paced.bridge.log) > 2)
    canceled = handle.cancel_goal_async()
    paced.ros.spin_until(canceled.done)
    result = paced.result(handle)
    assert result.termination_reason == "canceled"
    assert not result.success


def test_a_stop_ends_a_move(paced: Graph) -> None:
    handle = paced.move(name="ready", velocity_scaling=0.1)
    paced.ros.spin_until(lambda: len(paced.bridge.log) > 2)
    paced.call(SetBool, "arm/estop", SetBool.Request(data=True))
    assert paced.result(handle).termination_reason == "estop"
    commanded = len(paced.bridge.log)
    until = time.monotonic() + 0.5
    paced.ros.spin_until(lambda: time.monotonic() > until)
    assert len(paced.bridge.log) <= commanded + 1
    assert paced.bridge.log[-1][0] == "joints", "held in the way it moved"


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({"name": "redy"}, "unknown configuration 'redy'; did you mean 'ready'?"),
        ({"kind": 7}, "kind: expected 0 (named), 1 (joints) or 2 (pose), found 7"),
        ({"kind": 1}, "joints: expected one position for each of panda_joint1"),
        ({"kind": 2}, "pose: expected frame_id 'panda_link0', found ''"),
        ({"name": "ready", "velocity_scaling": 2.0}, "velocity_scaling: expected a value in (0, 1], found 2.0"),
    ],
)
def test_a_goal_that_makes_no_sense_is_rejected_with_its_reason(lockstep: Graph, goal: dict, said: str) -> None:
    result = lockstep.result(lockstep.move(**goal))
    assert not result.success and result.termination_reason == "rejected"
    assert said in result.message
    assert not lockstep.bridge.log


def test_every_limit_is_a_described_parameter_with_the_task_s_value(make_graph: Callable[..., Graph]) -> None:
    node = make_graph(lockstep=True, start=False, **{"limits.max_step": 0.03}).controller
    assert node.get_parameter("limits.max_step").value == 0.03
    assert node.get_parameter("limits.max_velocity").value == 0.5, "as config/tasks/pick_cube.yaml says"
    for field in fields(SafetyLimits):
        descriptor = node.describe_parameter(f"limits.{field.name}")
        assert field.description in descriptor.description
        if field.range is not None:
            (given,) = descriptor.floating_point_range
            assert (given.from_value, given.to_value) == field.range


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("task", "pick_cub", "'pick_cub' is not one of"),
        ("limits.max_step", 0.3, "limits.max_step"),
        ("limits.max_step", "much", "limits.max_step"),
        ("limits.workspace_min", [1.0, 0.0], "limits.workspace_min|workspace_min"),
        ("limits.workspace_min", [1.0, 0.0, 0.0], "expected workspace_min below workspace_max"),
        ("limits.max_gripper_width", 0.5, "expected at most the 0.08 m that 'panda' opens"),
    ],
)
def test_a_wrong_parameter_is_refused(ros: Any, name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ArmControllerNode(context=ros.context, parameter_overrides=[Parameter(name, value=value)])
    assert issubclass(ParameterError, ValueError)


def test_joint_states_of_another_robot_move_nothing_and_show_in_the_diagnostics(
    make_graph: Callable[..., Graph],
) -> None:
    graph = make_graph(lockstep=True, start=False)
    seen: list[DiagnosticArray] = []
    graph.node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, RELIABLE_10)
    graph.bridge.publisher.publish(JointState(name=["wheel"], position=array("d", [0.0]), velocity=array("d", [0.0])))

    def messages() -> list[str]:
        return [status.message for array_ in seen for status in array_.status]

    graph.ros.spin_until(lambda: any("panda_joint1" in message for message in messages()), timeout=30.0)
    graph.act(0, 0.0, 0.0, 0.0, 0.0)
    graph.ros.spin_until(lambda: "there are no joint_states" in graph.safety[-1].reason)
    assert not graph.bridge.log


def test_the_process_says_what_is_wrong_in_one_line_and_ends(processes: Any) -> None:
    prefix = next(
        (Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if (Path(p) / "lib/serl_robots").is_dir()),
        None,
    )
    if prefix is None:
        pytest.skip("serl_robots is not installed")
    process = processes.start(
        prefix / "lib/serl_robots/arm_controller", "--ros-args", "-p", "task:=pick_cub", "-p", "lockstep:=true"
    )
    assert process.wait() == 2
    assert process.output().strip().splitlines()[-1].startswith("fatal: parameter 'task'")
    assert "Traceback" not in process.output()
