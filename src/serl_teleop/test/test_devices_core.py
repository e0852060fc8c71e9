# SPDX-License-Identifier: Apache-2.0
"""From what a device reports to who leads and by which action, on time that the tests make up."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose
from serl_teleop.devices.action_mapping import ActionMapping
from serl_teleop.devices.axes import AxisMapping, MappingError, without_deadband
from serl_teleop.devices.buttons import Function, parse_buttons
from serl_teleop.devices.device import REST, DeviceError, DeviceState
from serl_teleop.devices.hand import Hand
from serl_teleop.devices.operator import DeviceSettings, Operator
from serl_teleop.devices.priority import leader
from serl_teleop.devices.takeover import Phase, Timing

from serl_tasks import ArmSample, get_task, task_names

IDENTITY = ("forward", "left", "up", "roll", "pitch", "yaw")
ONES = (1.0,) * 6
TIMING = Timing(start=0.03, release=0.3, stuck=10.0)
PERIOD = 0.02  # [s]
PUSH = (0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])

deflections = st.floats(-1.0, 1.0)
twists = st.tuples(*[deflections] * 6)


def mapping(axes=IDENTITY, scale=ONES, deadband=0.1) -> AxisMapping:
    return AxisMapping.parse(axes, scale, deadband)


class Clocked:
    """An operator that is asked every 20 ms; a push differs a little each time, as a hand's does."""

    def __init__(self, **changes) -> None:
        self.operator = Operator("device", DeviceSettings(mapping(), TIMING, **changes))
        self.now = 100.0

    def report(self, twist=REST, seconds=PERIOD, buttons=(), gripper=1.0, trembles=True):
        """The intents while the device shows `twist`."""
        intents = []
        for index in range(max(1, round(seconds / PERIOD))):
            self.now += PERIOD
            shown = tuple(value * (1.0 - 0.01 * (index % 2) * trembles) for value in twist)
            intents.append(
                self.operator.hear(DeviceState(shown, frozenset(buttons), stamp=self.now), gripper, self.now)
            )
        return intents

    def led(self, *arguments, **keywords) -> list[bool]:
        return [intent.phase.leads for intent in self.report(*arguments, **keywords)]


def at_rest(**changes) -> Clocked:
    clocked = Clocked(**changes)
    assert not any(clocked.led(REST, 1.0))
    return clocked


# Axes


@given(deflections, st.floats(0.0, 0.9))
def test_the_dead_band_neither_jumps_nor_takes_from_full_deflection(value, deadband):
    beyond = without_deadband(value, deadband)
    assert without_deadband(math.copysign(1.0, value), deadband) == math.copysign(1.0, value)
    assert abs(beyond) <= abs(value) + 1e-12
    assert beyond * value >= 0.0
    closer = without_deadband(value * 0.999, deadband)
    assert abs(beyond - closer) <= 0.001 / (1.0 - deadband) + 1e-12, "continuous"


@given(twists, st.permutations(range(6)), st.lists(st.sampled_from((-1, 1)), min_size=6, max_size=6))
def test_a_mapping_permutes_and_turns_axes_around(twist, order, signs):
    axes = [("-" if sign < 0 else "+") + IDENTITY[index] for index, sign in zip(order, signs, strict=True)]
    wanted = [sign * twist[index] for index, sign in zip(order, signs, strict=True)]
    np.testing.assert_allclose(mapping(axes, deadband=0.0).apply(twist), wanted, atol=1e-12)


def test_an_axis_that_moves_nothing_is_no_takeover():
    only_x = mapping(("forward", "none", "none", "none", "none", "none"))
    assert only_x.is_away((0.2, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert not only_x.is_away((0.05, 1.0, 1.0, 1.0, 1.0, 1.0))
    assert not mapping(scale=(0.0,) * 6).is_away(ONES)


@pytest.mark.parametrize(
    ("axes", "scale", "deadband", "named"),
    [
        (IDENTITY[:5], ONES, 0.1, "axes"),
        ((*IDENTITY[:5], "y"), ONES, 0.1, "'y'"),
        (IDENTITY, (2.0, *ONES[1:]), 0.1, "scale"),
        (IDENTITY, (math.nan, *ONES[1:]), 0.1, "scale"),
        (IDENTITY, ONES, 1.0, "deadband"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused_by_name(axes, scale, deadband, named):
    with pytest.raises(MappingError, match=named):
        AxisMapping.parse(axes, scale, deadband)


@pytest.mark.parametrize("text", ["left", "=close", "left=jump", "left close"])
def test_a_button_without_a_known_function_is_refused(text):
    with pytest.raises(MappingError, match="BUTTON=FUNCTION"):
        parse_buttons([text])


# Actions of tasks


def arm(quaternion=DOWN, gripper_target=0.03) -> ArmSample:
    pose = Pose(np.array([0.5, 0.0, 0.2]), quaternion)
    return ArmSample(pose, np.zeros(6), gripper_width=0.05, gripper_target=gripper_target, commanded=pose)


def is_of_one_arm(name):
    task = get_task(name)
    return bool(task.action.twist) and not task.arms


@pytest.mark.parametrize("name", filter(is_of_one_arm, task_names()))
def test_rest_keeps_the_gripper_that_is_commanded_and_moves_nothing(name):
    task = get_task(name)
    action = ActionMapping(task).action(REST, None, arm())
    np.testing.assert_array_equal(action, task.action.rest(0.03))
    assert task.action.problem(action.tolist()) is None


@given(twists, st.floats(-1.0, 1.0), st.sampled_from(("base", "tool")), st.tuples(*[st.floats(-1, 1)] * 4))
def test_every_deflection_is_an_action_in_the_direction_that_was_meant(twist, gripper, frame, numbers):
    quaternion = np.array(numbers)
    length = np.linalg.norm(quaternion)
    quaternion = DOWN if length < 0.1 else quaternion / length
    task, sample = get_task("pick_cube"), arm(quaternion)
    action = ActionMapping(task, frame).action(twist, gripper, sample)
    assert task.action.problem(action.tolist()) is None
    assert action[3] == np.float32(gripper)
    wanted = np.array(twist[:3]) if frame == "base" else sample.tcp.rotation_matrix() @ np.array(twist[:3])
    shorter = wanted / max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(action[:3], shorter, atol=1e-6)


# Taking over and letting go


def test_a_knock_is_no_takeover_and_a_push_is_one_after_its_time():
    device = at_rest()
    assert not any(device.led(PUSH, PERIOD))
    assert not any(device.led(REST, 0.1))
    assert device.led(PUSH, 0.08) == [False, False, True, True]


def test_noise_within_the_dead_band_never_leads():
    device = at_rest()
    assert not any(device.led((0.09, -0.09, 0.09, 0.0, 0.05, 0.0), 5.0))


def test_between_two_motions_the_person_leads_on_and_rests():
    device = at_rest()
    device.led(PUSH, 0.2)
    rest = device.report(REST, 0.28)
    assert all(intent.phase is Phase.LEADING for intent in rest)
    assert all(intent.twist == REST for intent in rest)
    assert not device.led(REST, 0.1)[-1]


def test_a_device_that_is_pushed_from_the_beginning_has_to_be_let_go_first():
    device = Clocked()
    assert not any(device.led(PUSH, 5.0))
    assert not any(device.led(REST, 0.5))
    assert device.led(PUSH, 0.1)[-1]


def test_a_deadman_leads_as_long_as_it_is_held_and_not_a_moment_longer():
    device = at_rest(buttons=parse_buttons(["bumper=lead"]))
    assert not any(device.led(PUSH, 1.0))
    held = device.report(PUSH, PERIOD, buttons=["bumper"])[-1]
    assert held.phase is Phase.LEADING
    assert held.twist[0] > 0.0
    assert device.led(REST, 2.0, buttons=["bumper"])[-1]
    assert not device.led(PUSH, PERIOD)[-1]


@given(st.lists(st.tuples(st.sampled_from(("rest", "push", "silence", "nan")), st.integers(1, 30)), max_size=12))
def test_whatever_happens_only_a_push_moves_the_arm(story):
    device = Clocked()
    for what, steps in story:
        for _ in range(steps):
            device.now += PERIOD
            if what == "silence":
                intent = device.operator.lose("unplugged")
            else:
                x = {"rest": 0.0, "push": 0.5, "nan": math.nan}[what]
                state = DeviceState((x, 0.0, 0.0, 0.0, 0.0, 0.0), stamp=device.now)
                intent = device.operator.hear(state, 0.0, device.now)
            assert any(intent.twist) <= (what == "push" and intent.phase is Phase.LEADING)
            assert all(map(math.isfinite, intent.twist))


# What is lost


def test_a_device_that_is_unplugged_while_it_leads_holds_the_arm_until_it_is_taken_again():
    device = at_rest()
    device.led(PUSH, 0.2)
    intent = device.operator.lose("unplugged")
    assert (intent.phase, intent.twist, intent.problem) == (Phase.HOLDING, REST, "unplugged")
    assert all(intent.phase is Phase.HOLDING for intent in device.report(PUSH, 1.0)), "not before it has rested"
    assert all(intent.phase is Phase.HOLDING for intent in device.report(REST, 5.0)), "nobody has agreed to anything"
    assert device.report(PUSH, 0.1)[-1].phase is Phase.LEADING
    assert not device.led(REST, 0.5)[-1]


def test_consent_gives_a_held_arm_back_and_nothing_else():
    device = at_rest()
    assert not device.operator.takeover.consent()
    device.led(PUSH, 0.2)
    device.operator.lose("unplugged")
    assert device.operator.takeover.consent()
    assert not device.operator.lose("unplugged").phase.leads


def test_a_device_that_is_unplugged_at_rest_holds_nothing():
    device = at_rest()
    assert not device.operator.lose("unplugged").phase.leads


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.5])
def test_numbers_that_are_none_hold_the_arm_and_are_named(bad):
    device = at_rest()
    device.led(PUSH, 0.2)
    intent = device.operator.hear(DeviceState((0.0, bad, 0.0, 0.0, 0.0, 0.0)), 0.0, device.now + PERIOD)
    assert intent.phase is Phase.HOLDING
    assert "axis left" in intent.problem


def test_a_stuck_axis_stops_leading_and_is_named():
    device = at_rest()
    intents = device.report((0.0, 0.0, 0.0, 0.0, 0.0, 0.4), 12.0, trembles=False)
    assert intents[100].phase is Phase.LEADING
    assert intents[-1].phase is Phase.HOLDING
    assert intents[-1].twist == REST
    assert "axis yaw" in intents[-1].problem


def test_a_steady_hand_is_not_stuck():
    device = at_rest()
    assert device.report((0.0, 0.0, 0.0, 0.0, 0.0, 0.4), 30.0)[-1].phase is Phase.LEADING


def test_a_device_that_cannot_be_opened_is_tried_once_a_second():
    tries = []

    def fail():
        tries.append(True)
        raise DeviceError("no such device")

    hand = Hand(Operator("device", DeviceSettings(mapping(), TIMING)), fail)
    for step in range(150):
        assert hand.ask(0.0, 100.0 + step * PERIOD).problem == "no such device"
    assert len(tries) == 3


# Buttons


def test_a_press_says_its_word_once_whoever_leads():
    device = at_rest(buttons=parse_buttons(["left=success", "right=failure"]))
    words = [word for intent in device.report(REST, 1.0, buttons=["left", "unknown"]) for word in intent.words]
    assert words == [Function.SUCCESS]
    assert device.report(REST)[-1].words == ()
    assert device.report(REST, buttons=["left", "right"])[-1].words == (Function.SUCCESS, Function.FAILURE)


def test_a_gripper_button_takes_over_at_once_and_the_grip_is_kept():
    device = at_rest(buttons=parse_buttons(["left=toggle"]))
    (pressed,) = device.report(REST, buttons=["left"])
    assert (pressed.phase, pressed.gripper) == (Phase.LEADING, -1.0)
    assert all(intent.gripper == -1.0 for intent in device.report(PUSH, 1.0, gripper=-1.0))
    device.report(REST, 1.0, gripper=-1.0)
    again = device.report(PUSH, 0.1, gripper=-1.0)[-1]
    assert again.phase is Phase.LEADING
    assert again.gripper is None, "a new takeover asks for nothing: what is commanded stays"
    assert device.report(REST, buttons=["left"], gripper=-1.0)[-1].gripper == 1.0


# Several devices


def test_the_first_of_several_leads_and_the_other_has_to_be_let_go():
    first, second = at_rest(), at_rest()
    operators = [first.operator, second.operator]

    def step(a, b):
        return leader(operators, [first.report(a)[-1], second.report(b)[-1]])

    assert [step(REST, PUSH) for _ in range(4)][-1] == 1
    assert [step(PUSH, PUSH) for _ in range(4)][-1] == 0
    assert {step(REST, PUSH) for _ in range(100)} <= {0, None}, "the second one was overruled"
    for _ in range(20):
        step(REST, REST)
    assert [step(REST, PUSH) for _ in range(4)][-1] == 1
