# SPDX-License-Identifier: Apache-2.0
"""Which controllers are switched, and in whose order joints are told, from what a controller_manager lists."""

import pytest
from serl_drivers.mock_hardware.controllers import CARTESIAN, FORWARD, GRIPPER, TRAJECTORY, Controllers
from serl_drivers.ros2_control.controllers import (
    Controller,
    ControllerError,
    Switch,
    named,
    order_of,
    switch_back,
    switch_to,
)
from serl_robots.model.robot import load_robot

ARM = ("a", "b")


def controller(name: str, state: str, *joints: str, interface: str = "position") -> Controller:
    required = tuple(f"{joint}/{interface}" for joint in joints)
    return Controller(name, state, required, required if state == "active" else ())


LOADED = (
    controller("trajectory", "active", *ARM),
    controller("forward", "inactive", "b", "a", "finger"),
    controller("impedance", "inactive", *ARM, interface="effort"),
    controller("gripper", "active", "finger"),
    controller("states", "active"),
    controller("broken", "unconfigured", *ARM),
)


def test_whoever_has_one_of_the_joints_by_any_interface_lets_go_of_it() -> None:
    assert switch_to("trajectory", LOADED) == Switch()
    assert switch_to("impedance", LOADED) == Switch(("impedance",), ("trajectory",))
    assert switch_to("forward", LOADED) == Switch(("forward",), ("trajectory", "gripper"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("forwad", r"did you mean 'forward'.*trajectory, forward, .*spawner forwad --inactive"),
        ("broken", "'broken' is unconfigured: .*set_controller_state broken inactive"),
    ],
)
def test_a_controller_that_cannot_be_had_is_named_with_what_to_do(name: str, expected: str) -> None:
    with pytest.raises(ControllerError, match=expected):
        switch_to(name, LOADED)


def test_what_was_switched_is_given_back_unless_somebody_else_has_switched() -> None:
    made = switch_to("impedance", LOADED)
    after = (controller("trajectory", "inactive", *ARM), controller("impedance", "active", *ARM, interface="effort"))
    assert switch_back(made, after) == Switch(("trajectory",), ("impedance",))
    assert switch_back(made, LOADED) == Switch()


def test_joints_are_told_in_the_controller_s_order_and_other_joints_are_refused() -> None:
    assert order_of(named("forward", LOADED), ARM, "finger") == ("b", "a", "finger")
    with pytest.raises(ControllerError, match="'gripper' commands finger/position: expected the position of a, b"):
        order_of(named("gripper", LOADED), ARM, "finger")
    with pytest.raises(ControllerError, match="a/effort, b/effort"):
        order_of(named("impedance", LOADED), ARM, "finger")


def test_the_stand_in_switches_all_or_nothing() -> None:
    stand_in = Controllers(load_robot("panda"), TRAJECTORY)
    before = stand_in.all
    assert "which 'joint_trajectory_controller' has" in stand_in.switch([FORWARD], [])
    assert "is inactive, not active" in stand_in.switch([], [CARTESIAN])
    assert "no controller 'x'" in stand_in.switch(["x"], [TRAJECTORY])
    assert stand_in.all == before
    assert stand_in.switch([CARTESIAN], [TRAJECTORY]) == ""
    assert [stand_in.is_active(name) for name in (TRAJECTORY, CARTESIAN, GRIPPER)] == [False, True, True]
