# SPDX-License-Identifier: Apache-2.0
"""The kind handover: when the stick has been handed over, and what its file may not say."""

import dataclasses
import itertools
import math

import pytest
from serl_config.schema import ConfigError
from serl_robots.model.pose import Pose
from serl_tasks.kinds.handover import Handover

from serl_tasks import get_task

AWAY = (0.5, -0.1, 0.25)
HELD = (0.5, 0.1, 0.14)
"""Where the taker holds the stick at the middle, 10 cm along it."""


@pytest.fixture(scope="module")
def task() -> Handover:
    found = get_task("handover")
    assert isinstance(found, Handover)
    return found


def scene(
    stick: tuple[float, float, float],
    giver: tuple[float, float, float],
    taker: tuple[float, float, float],
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> dict[str, Pose]:
    return {"stick": Pose.from_rotation_vector(stick, turn), "right/tcp": Pose(giver), "left/tcp": Pose(taker)}


@pytest.mark.parametrize(
    ("stick", "giver", "taker", "success"),
    [
        ((0.5, 0.0, 0.14), AWAY, HELD, True),
        ((0.5, 0.0, 0.14), (0.5, -0.1, 0.219), HELD, False),  # 79 mm above the stick: not released
        ((0.5, 0.0, 0.14), (0.5, -0.1, 0.221), HELD, True),
        ((0.5, 0.0, 0.14), (0.5, -0.215, 0.14), HELD, False),  # 75 mm behind its end, which is 14 cm from its middle
        ((0.5, 0.0, 0.14), (0.5, -0.225, 0.14), HELD, True),
        ((0.5, 0.0, 0.14), AWAY, (0.5, 0.131, 0.14), False),  # not where it should be held
        ((0.5, 0.0, 0.14), AWAY, (0.5, -0.1, 0.14), False),  # the giver's end
        ((0.5, 0.0, 0.089), AWAY, (0.5, 0.1, 0.089), False),  # 69 mm above where it stood
        ((0.5, 0.0, 0.091), AWAY, (0.5, 0.1, 0.091), True),
    ],
)
def test_it_is_handed_over_when_the_taker_holds_it_up_and_the_giver_has_left(
    task: Handover,
    stick: tuple[float, float, float],
    giver: tuple[float, float, float],
    taker: tuple[float, float, float],
    success: bool,
) -> None:
    judgement = task.judge(scene(stick, giver, taker))
    assert (judgement.success, judgement.terminated, judgement.reward) == (success, success, float(success))


def test_a_stick_that_was_turned_round_is_the_same_stick(task: Handover) -> None:
    assert task.judge(scene((0.5, 0.0, 0.14), AWAY, HELD, (0.0, 0.0, math.pi))).success


def test_the_distance_falls_along_the_way_of_the_stick(task: Handover) -> None:
    """The giver comes, lifts, brings; the taker comes; the giver leaves."""
    start, ready = (0.5, -0.24, 0.02), (0.5, 0.1, 0.2)
    way = [scene(start, (0.5, -0.34, z), ready) for z in (0.2, 0.1, 0.03)]
    way += [scene((0.5, y, z), (0.5, y - 0.1, z), ready) for y, z in ((-0.24, 0.1), (-0.24, 0.14), (-0.1, 0.14))]
    way += [scene((0.5, 0.0, 0.14), (0.5, -0.1, 0.14), (0.5, 0.1, z)) for z in (0.2, 0.18, 0.14)]
    way += [scene((0.5, 0.0, 0.14), (0.5, -0.1, z), HELD) for z in (0.17, 0.21)]
    distances = [task.distance_to_goal(each) for each in way]
    assert all(later < earlier for earlier, later in itertools.pairwise(distances)), distances
    assert task.distance_to_goal(scene((0.5, 0.0, 0.14), AWAY, HELD)) == 0.0


def test_a_task_says_what_is_wrong_with_a_handover(task: Handover) -> None:
    with pytest.raises((ValueError, ConfigError), match=r"giver: expected one of left, right, found 'middle'"):
        dataclasses.replace(task, giver="middle")
    with pytest.raises((ValueError, ConfigError), match=r"grips: expected less than half of the stick's 0.28 m"):
        dataclasses.replace(task, grips=0.15)
    with pytest.raises((ValueError, ConfigError), match=r"grips: expected more than half of keep_apart, 0.15 m"):
        dataclasses.replace(task, grips=0.07)
    with pytest.raises((ValueError, ConfigError), match=r"free box named 'stick', found fixed, box"):
        dataclasses.replace(task, objects={**task.objects, "stick": task.objects["wall"]})
