# SPDX-License-Identifier: Apache-2.0
"""The node among others: a pretended bridge moves a pretended arm; everything else is real."""

import math
import os
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
from arm_graph import PERIOD_NS, Graph
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from serl_config.schema import fields
from serl_robots.arm_controller_node import ArmControllerNode
from serl_robots.safety.limits import LIMIT_NAMES, SafetyLimits
from serl_ros.parameters import ParameterError
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from serl_interfaces.action import MoveTo
from serl_interfaces.msg import ActionCommand, EpisodeStatus, ExecutedAction, SafetyStatus

pytestmark = pytest.mark.graph


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


def test_a_repeated_step_is_answered_again_and_moves_nothing_twice(lockstep: Graph) -> None:
    answer = lockstep.step(0, 0.5, 0.0, 0.0, -1.0)
    commands, states = len(lockstep.bridge.log), len(lockstep.states)
    lockstep.executed.clear()
    lockstep.act(0, 0.5, 0.0, 0.0, -1.0)
    lockstep.ros.spin_until(lambda: lockstep.executed, what="the answer that was lost")
    assert lockstep.executed[0] == answer
    assert lockstep.step(1, 0.0, 0.0, 0.0, -1.0).header.stamp == lockstep.states[states - 1].header.stamp
    assert len(lockstep.bridge.log) == commands + 2, "one width and one pose for the step after it"


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


def test_two_who_publish_at_once_do_not_interleave(make_graph: Callable[..., Graph]) -> None:
    paced = make_graph(lockstep=False, **{"limits.stale_timeout": 5.0})  # a busy machine is no silence
    node = paced.ros.node("persons")
    publishers = {name: node.create_publisher(ActionCommand, "teleop/action", RELIABLE_1) for name in "ab"}
    wanted: dict[str, float | None] = {"a": 0.25, "b": -0.25}

    def say() -> None:
        for name, value in wanted.items():
            action = array("f", [value or 0.0, 0.0, 0.0, 0.0])
            publishers[name].publish(ActionCommand(active=value is not None, action=action, sender=name))

    node.create_timer(0.02, say)
    paced.ros.spin_until(lambda: len(paced.executed) > 5)
    led = {executed.action[0] for executed in paced.executed}
    assert led in ({0.25}, {-0.25}), "whoever was heard first"
    paced.ros.spin_until(lambda: paced.safety[-1].mode == SafetyStatus.MODE_HUMAN)
    followed = paced.safety[-1].leader
    assert led == {wanted[followed]}
    wanted[followed] = None
    paced.ros.spin_until(lambda: paced.safety[-1].leader not in ("", followed), what="the other one to lead")


def test_a_flood_of_names_does_not_flood_the_log(
    make_graph: Callable[..., Graph], capfd: pytest.CaptureFixture[str]
) -> None:
    paced = make_graph(lockstep=False, **{"limits.stale_timeout": 10.0})  # a busy machine is no silence
    publisher = paced.ros.node("persons").create_publisher(ActionCommand, "teleop/action", RELIABLE_10)
    paced.ros.spin_until(lambda: publisher.get_subscription_count() == 1)
    action = array("f", [0.25, 0.0, 0.0, 0.0])
    began = time.monotonic()

    def refused() -> int:
        return paced.controller._controller.unheard

    for number in range(10):
        publisher.publish(ActionCommand(active=True, action=action, sender="first"))
        paced.ros.spin_until(lambda: paced.safety[-1].leader == "first")
        publisher.publish(ActionCommand(active=True, action=action, sender=f"name {number}"))
        paced.ros.spin_until(lambda number=number: refused() > number, what="the refusal")
    for number in range(10):  # each takes over from the one before
        name = f"leader {number}"
        publisher.publish(ActionCommand(active=True, action=action, sender=name, priority=1 + number))
        paced.ros.spin_until(lambda name=name: paced.safety[-1].leader == name, what=f"{name} to lead")
    most = 1 + (time.monotonic() - began) // 5.0  # a line in 5 s
    written = capfd.readouterr().err
    assert 1 <= written.count("is not followed") <= most
    assert 1 <= written.count("leads the arm") <= most


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
    lockstep.ros.spin_until(lambda: late)
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
    # else the step waits for its episode, for longer than a policy may be silent
    paced.episode.publish(EpisodeStatus(episode=1, mode=EpisodeStatus.MODE_TRAINING))
    paced.ros.spin_until(lambda: paced.controller._controller._leaders.is_announced)
    paced.act(0, 1.0, 0.0, 0.0, 0.0)
    paced.ros.spin_until(lambda: paced.executed and len(paced.bridge.log) >= 2)
    paced.ros.spin_until(lambda: len(paced.bridge.log) >= 4, what="the hold")
    paced.ros.spin_until(lambda: "no command for 0.2 s" in paced.safety[-1].reason)
    hold = dict(paced.bridge.log)["pose"].pose.position
    tcp = paced.bridge.kinematics.tcp(paced.bridge.joints)
    assert [hold.x, hold.y, hold.z] == pytest.approx(tcp.position.tolist(), abs=1e-6)
    assert paced.safety[-1].mode == SafetyStatus.MODE_IDLE


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


def test_the_boxes_and_posts_of_a_scene_are_kept_out_of(make_graph: Callable[..., Graph]) -> None:
    node = make_graph(lockstep=True, start=False, scene="table_with_posts").controller
    table, left, right = np.reshape(node.get_parameter("limits.keep_out").value, (3, 6)).tolist()
    assert table == [-0.25, -0.5, -0.04, 0.85, 0.5, 0.0]
    assert left == pytest.approx([0.42, 0.22, 0.0, 0.48, 0.28, 0.6])
    assert right == pytest.approx([0.42, -0.28, 0.0, 0.48, -0.22, 0.6])


def test_a_wrench_that_is_too_large_stops_the_arm_and_one_that_stops_holds_it(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph(lockstep=False, start=False, **{"limits.max_force": 30.0})
    publisher = graph.node.create_publisher(WrenchStamped, "wrench", RELIABLE_1)
    message = WrenchStamped()

    def said(text: str, force: float) -> bool:
        message.wrench.force.y = force
        publisher.publish(message)
        graph.bridge.publish(10_000_000)
        return any(text in status.reason for status in graph.safety[-1:])

    graph.ros.spin_until(lambda: said("no fresh wrench", math.nan), timeout=30.0)
    graph.ros.spin_until(lambda: said("", 5.0) and not graph.safety[-1].reason, timeout=30.0)
    graph.ros.spin_until(lambda: said("force 60.0 N at the tool, at most 30 N", 60.0), timeout=30.0)
    assert graph.safety[-1].estop and "force" in graph.safety[-1].active_limits


def test_rviz_is_shown_the_boxes_the_target_and_who_leads(make_graph: Callable[..., Graph]) -> None:
    box = [0.6, -0.1, 0.0, 0.7, 0.1, 0.4]
    graph = make_graph(lockstep=False, **{"limits.keep_out": box})
    seen: list[MarkerArray] = []
    graph.node.create_subscription(MarkerArray, "arm/markers", seen.append, RELIABLE_1)

    def shown(text: str) -> bool:
        return bool(seen) and any(marker.text == text for marker in seen[-1].markers)

    graph.ros.spin_until(lambda: shown("idle"), timeout=30.0)
    graph.call(SetBool, "arm/estop", SetBool.Request(data=True))
    graph.ros.spin_until(lambda: shown("estop"), timeout=30.0)
    by_name = {marker.ns: marker for marker in seen[-1].markers}
    assert {*by_name} == {"workspace", "keep_out", "keep_out_distance", "trail", "target", "leader"}
    size, middle = by_name["keep_out"].scale, by_name["keep_out"].pose.position
    assert np.allclose([size.x, size.y, size.z, middle.x, middle.y, middle.z], [0.1, 0.2, 0.4, 0.65, 0.0, 0.2])
    corners = np.array([[point.x, point.y, point.z] for point in by_name["workspace"].points])
    assert np.allclose([corners.min(0), corners.max(0)], [[0.25, -0.3, 0.02], [0.7, 0.3, 0.5]])
    edges = corners.reshape(12, 2, 3)
    assert np.all(np.count_nonzero(edges[:, 0] != edges[:, 1], axis=1) == 1), "each along one axis"
    target, state = by_name["target"].pose.position, graph.states[-1].target_pose.position
    assert [target.x, target.y, target.z] == pytest.approx([state.x, state.y, state.z], abs=1e-6)
    assert by_name["target"].color.r == pytest.approx(0.9), "the colour of the e-stop"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("task", "pick_cub", "'pick_cub' is not one of"),
        ("limits.max_step", 0.3, "limits.max_step"),
        ("limits.max_step", "much", "limits.max_step"),
        ("limits.workspace_min", [1.0, 0.0], "limits.workspace_min|workspace_min"),
        ("limits.workspace_min", [1.0, 0.0, 0.0], "expected workspace_min below workspace_max"),
        ("limits.keep_out", [0.1, 0.2], "six numbers for each box"),
        ("scene", "tabel", "did you mean 'table'"),
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
