# SPDX-License-Identifier: Apache-2.0
"""How far a fleet gets without a person counts the episodes of all arms."""

import pytest
from serl_tasks.messages import MessageError
from serl_training.fleet.autonomy import FleetAutonomy


def told(length, success, led=0.0):
    return {"train/episode_length": float(length), "train/success": float(success), "train/intervention_rate": led}


def test_the_last_episodes_of_all_arms_count_by_their_steps():
    fleet = FleetAutonomy()
    assert fleet.hear({"eval/success_rate": 1.0}) == {}, "no training episode"
    fleet.hear(told(10, 1))  # arm_0
    fleet.hear(told(30, 0, led=1 / 3))  # arm_1: led for 10 steps
    numbers = fleet.hear(told(20, 0))  # arm_0
    assert numbers["autonomy/episodes"] == 3.0
    assert numbers["autonomy/led_steps"] == pytest.approx(10 / 60)
    assert numbers["autonomy/untouched"] == pytest.approx(2 / 3)
    assert numbers["autonomy/success_alone"] == pytest.approx(1 / 2)
    assert numbers["autonomy/episode_length"] == pytest.approx(20.0)


@pytest.mark.parametrize("name", ["episode_length", "episode_return", "success", "intervention_rate"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_counted(name, value):
    counted = FleetAutonomy()
    with pytest.raises(MessageError, match="expected finite numbers"):
        counted.hear({"train/episode_length": 10.0, f"train/{name}": value})
    assert counted.hear({"train/episode_length": 10.0})["autonomy/episodes"] == 1
