# SPDX-License-Identifier: Apache-2.0
"""The node of docs/add_a_teleop_device.md leads while its button is held, and says so once when it is let go."""

import os
import struct
import sys

import pytest
from documented_pages import ROOT

PAGE = ROOT / "docs" / "add_a_teleop_device.md"
BUTTON, AXIS = 1, 2


@pytest.mark.graph
def test_the_device_of_the_page_leads(checkout, ros, processes, tmp_path):
    from serl_ros.qos import LOOP_1, RELIABLE_10

    from serl_interfaces.msg import ActionCommand, ArmState

    checkout.follow(PAGE)
    os.mkfifo(tmp_path / "js0")
    device = os.open(tmp_path / "js0", os.O_RDWR)

    def happens(kind, number, value):
        os.write(device, struct.pack("<IhBB", 0, value, kind, number))

    heard = []
    node = ros.node()
    node.create_subscription(ActionCommand, "teleop/action", heard.append, RELIABLE_10)
    arm = node.create_publisher(ArmState, "arm/state", LOOP_1)
    state = ArmState(gripper_target=0.04)
    state.tcp_pose.orientation.w = state.target_pose.orientation.w = 1.0
    node.create_timer(0.05, lambda: arm.publish(state))
    program = "from serl_teleop.joystick_node import main; main()"
    parameters = ["--ros-args", "-p", f"device:={tmp_path / 'js0'}"]
    process = processes.start(sys.executable, "-c", program, *parameters, env=checkout.environment)

    happens(AXIS, 1, -32767)
    happens(BUTTON, 4, 1)
    ros.spin_until(lambda: heard, 20.0, lambda: f"an action: {process.output()}")
    assert heard[-1].active
    assert list(heard[-1].action) == [1.0, 0.0, 0.0, 0.0], "half open is held half open"
    happens(BUTTON, 4, 0)
    ros.spin_until(lambda: not heard[-1].active, 10.0, "the person to let go")
    happens(BUTTON, 4, 1)
    ros.spin_until(lambda: heard[-1].active, 10.0, "the person to lead again")
    os.close(device)
    ros.spin_until(lambda: not heard[-1].active, 10.0, "the device to be gone")
    assert process.poll() is None, process.output()
