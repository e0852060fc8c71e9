# SPDX-License-Identifier: Apache-2.0
"""A person leads a simulated arm by a device, through the launch file's own graph."""

import sys

import pytest

try:
    from sensor_msgs.msg import Joy
    from serl_ros.qos import LOOP_1, RELIABLE_10

    from serl_interfaces.msg import ArmState, ExecutedAction
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)


PATIENCE = 90.0  # [s]; a busy machine starts a graph slowly


@pytest.mark.graph
@pytest.mark.timeout(300)
def test_a_person_moves_the_arm_and_lets_go_and_nothing_moves_back(ros, processes):
    arguments = ("task:=pick_cube", "learning_nodes:=false", "teleop:=joy", "real_time_factor:=1.0")
    launch = processes.start(sys.executable, "-m", "serl_cli", "launch", "sim.launch.xml", *arguments)
    node = ros.node()
    arm, executed = [], []
    node.create_subscription(ArmState, "arm/state", arm.append, LOOP_1)
    node.create_subscription(ExecutedAction, "arm/executed", executed.append, RELIABLE_10)
    joys = node.create_publisher(Joy, "joy", RELIABLE_10)
    joy = Joy(axes=[0.0] * 6, buttons=[0])
    node.create_timer(0.02, lambda: joys.publish(joy))

    def wait(condition, what):
        ros.spin_until(condition, PATIENCE, lambda: f"{what} (exit code {launch.poll()}): {launch.output()[-2000:]}")

    wait(lambda: arm and node.count_subscribers("joy") > 0, "the graph")
    start = arm[-1].tcp_pose.position

    def led(axis, value):
        """Deflect, never quite the same, until the person leads; let go for a second every five.

        A device that was silent for half a second, as on a machine that is busy, leads again once it was at rest.
        """
        resting = arm[-1].header.stamp.sec % 5 == 0
        joy.axes[axis] = 0.0 if resting else value if joy.axes[axis] != value else 0.99 * value
        return executed and executed[-1].source == ExecutedAction.SOURCE_HUMAN

    def let_go():
        """At rest long enough, before the device is taken."""
        return arm[-1].header.stamp.sec >= since + 2

    since = arm[-1].header.stamp.sec
    wait(let_go, "the device to be at rest")
    wait(lambda: led(0, 0.8) and arm[-1].tcp_pose.position.x > start.x + 0.04, "the arm to go forward")
    joy.buttons[0] = 1  # toggles the gripper
    wait(lambda: led(0, 0.0) and arm[-1].gripper_target == 0.0, "the gripper to close")
    joy.axes[0], joy.buttons[0] = 0.0, 0
    since = arm[-1].header.stamp.sec
    wait(let_go, "the person to let go")
    wait(lambda: arm[-1].mode != ExecutedAction.SOURCE_HUMAN, "nobody to lead")
    left = arm[-1].target_pose.position
    since = arm[-1].header.stamp.sec
    wait(let_go, "what comes after")
    assert arm[-1].gripper_target == 0.0, "the gripper stays closed"
    assert arm[-1].target_pose.position == left, "the arm stays"
    assert launch.poll() is None
