# SPDX-License-Identifier: Apache-2.0
"""Reports as they come from the models, through a pipe in the place of hidraw, to what a hand means."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_teleop.devices.device import REST, DeviceError
from serl_teleop.devices.hid.emulated import MOUSE, PipedSpaceMouse
from serl_teleop.devices.hid.spacemouse import UDEV_RULE, SpaceMouse, find_space_mouse, space_mice
from serl_teleop.devices.hid.spacemouse_reports import MODELS, Model, Reports

FULL = 350


@pytest.fixture
def piped(tmp_path):
    return PipedSpaceMouse(tmp_path)


@pytest.fixture
def mouse(piped):
    mouse = SpaceMouse(find_space_mouse("", piped.sysfs, piped.dev))
    yield mouse
    mouse.close()


@pytest.mark.parametrize(
    ("counts", "twist"),
    [
        ((0, -FULL, 0, 0, 0, 0), (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)),  # pushed away: forward
        ((-FULL, 0, 0, 0, 0, 0), (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)),  # pushed to the left
        ((0, 0, -FULL, 0, 0, 0), (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)),  # pulled up
        ((0, 0, 0, 0, -FULL, 0), (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
        ((0, 0, 0, -FULL, 0, 0), (0.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
        ((0, 0, 0, 0, 0, -FULL), (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
        ((FULL // 2, 2 * FULL, 0, 0, 0, 0), (-1.0, -0.5, 0.0, 0.0, 0.0, 0.0)),  # beyond full is full
    ],
)
@pytest.mark.parametrize("wireless", [False, True])
def test_axes_are_forward_left_and_up(piped, mouse, counts, twist, wireless):
    (piped.move_wireless if wireless else piped.move)(*counts)
    assert mouse.read(1.0).twist == twist


def test_a_cap_that_nobody_has_touched_is_at_rest(mouse):
    assert mouse.read(1.0).twist == REST
    assert mouse.read(100.0).twist == REST


def test_only_the_newest_of_many_reports_counts(piped, mouse):
    for counts in range(8):
        piped.move(0, -counts, 0, 0, 0, 0)
    assert mouse.read(1.0).twist[0] == 7 / FULL


def test_a_press_that_is_over_before_anybody_looks_is_seen_once(piped, mouse):
    piped.press(0b01)
    piped.press(0b00)
    assert mouse.read(1.0).buttons == {"left"}
    assert mouse.read(1.0).buttons == frozenset()
    piped.press(0b11)
    assert mouse.read(1.0).buttons == {"left", "right"}
    assert mouse.read(1.0).buttons == {"left", "right"}, "held"


def test_buttons_of_larger_models_have_numbers(tmp_path):
    piped = PipedSpaceMouse(tmp_path, 3, "0003:0000046D:0000C62B", "SpaceMouse Pro")
    mouse = SpaceMouse(find_space_mouse(str(piped.path), piped.sysfs, piped.dev))
    piped.press(1 << 22 | 1)
    assert mouse.read(1.0).buttons == {"0", "22"}
    assert mouse.description == f"SpaceMouse Pro at {piped.path}"
    mouse.close()


def test_unplugging_is_named(piped, mouse):
    piped.move(0, -100, 0, 0, 0, 0)
    mouse.read(1.0)
    piped.unplug()
    with pytest.raises(DeviceError, match="unplugged"):
        mouse.read(1.1)
    with pytest.raises(DeviceError, match="hidraw0"):
        SpaceMouse(find_space_mouse("", piped.sysfs, piped.dev))


def test_a_wireless_one_that_falls_silent_in_a_motion_is_named(piped, mouse):
    piped.move_wireless(0, -100, 0, 0, 0, 0)
    assert mouse.read(1.0).twist[0] > 0.0
    assert mouse.read(1.4).twist[0] > 0.0
    with pytest.raises(DeviceError, match="receiver"):
        mouse.read(1.6)


def test_nobody_may_read_it(piped, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(DeviceError, match=r"udev rule"):
        SpaceMouse(find_space_mouse("", piped.sysfs, piped.dev))


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20), st.booleans())
def test_reports_of_any_content_are_no_error_and_within_the_bounds(reports, two_buttons):
    taken = Reports(Model("any", two_buttons))
    for report in reports:
        taken.take(report)
    assert all(abs(value) <= 1.0 for value in taken.twist)
    assert taken.buttons() <= ({"left", "right"} if two_buttons else set(map(str, range(32))))


def test_the_axes_of_a_receiver_are_found_and_not_its_mouse(tmp_path):
    receiver = "0003:0000256F:0000C652"
    PipedSpaceMouse(tmp_path, 10, receiver, "Universal Receiver")
    PipedSpaceMouse(tmp_path, 2, receiver, "Universal Receiver", MOUSE)
    PipedSpaceMouse(tmp_path, 1, "0003:0000046D:0000C077", "Optical Mouse", MOUSE)
    PipedSpaceMouse(tmp_path, 4, "nonsense", "Nonsense")
    new = PipedSpaceMouse(tmp_path, 11, "0005:0000256F:0000FFFF", "SpaceMouse of tomorrow")
    found = space_mice(new.sysfs, new.dev)
    assert [(mouse.path.name, mouse.model.name) for mouse in found] == [
        ("hidraw10", "Universal Receiver"),
        ("hidraw11", "SpaceMouse of tomorrow"),
    ]
    with pytest.raises(DeviceError, match="hidraw2 is no SpaceMouse"):
        find_space_mouse(str(new.dev / "hidraw2"), new.sysfs, new.dev)


def test_none_is_plugged_in(tmp_path):
    assert space_mice(tmp_path, tmp_path) == []
    with pytest.raises(DeviceError, match="no SpaceMouse"):
        find_space_mouse("", tmp_path, tmp_path)


@pytest.mark.parametrize(("vendor", "product"), MODELS)
def test_the_udev_rule_is_about_every_model(vendor, product):
    def matches(rule):
        return f'=="{vendor:04x}"' in rule and ("idProduct" not in rule or f'=="{product:04x}"' in rule)

    assert any(matches(rule) and 'TAG+="uaccess"' in rule for rule in UDEV_RULE.splitlines())
