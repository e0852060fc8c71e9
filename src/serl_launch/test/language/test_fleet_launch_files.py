# SPDX-License-Identifier: Apache-2.0
"""What the launch files of a fleet start: on one machine or several, of one arm or two, simulated or real."""

from pathlib import Path
from typing import Any

import pytest
from planned_graphs import ROOT, installed, parameters, plan
from serl_launch.language.errors import LaunchError

FLEET = ROOT / "launch/fleet.launch.xml"
ARM = ROOT / "launch/fleet_arm.launch.xml"
COMMON = {"task": "pick_cube", "seed": "3", "graph_id": "a", "learning": "fast"}
NODES = ("mujoco_bridge", "arm_controller", "reward", "scripted_human", "actor")


EXECUTABLES = {
    "serl_sim": ["mujoco_bridge"],
    "serl_drivers": ["driver"],
    "serl_robots": ["arm_controller"],
    "serl_teleop": ["scripted_human", "teleop", "console"],
    "serl_training": ["reward", "reward_human", "actor", "learner", "fleet"],
    "serl_bringup": [],
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return installed(tmp_path, EXECUTABLES)


def started(file: Path, environment: dict[str, str], **arguments: str) -> dict[str, dict[str, Any]]:
    return parameters(plan(file, environment, **{**COMMON, **arguments}))


def of_arms(*names: str) -> set[str]:
    return {f"/{name}/{node}" for name in names for node in NODES}


@pytest.mark.parametrize("fleet", ["", "lab"])
def test_machines_of_a_fleet_have_together_what_one_has_alone(environment: dict[str, str], fleet: str) -> None:
    own = {"fleet": fleet, "run_dir": "there"}
    whole = started(FLEET, environment, actors="5", **own)
    learner = started(FLEET, environment, side="learner", actors="5", **own)
    one = started(FLEET, environment, side="robot", actors="2", **own)
    other = started(FLEET, environment, side="robot", actors="3", first="2", **own)
    before = f"/{fleet}" if fleet else ""
    assert learner.keys() == {f"{before}/fleet", f"{before}/learner"}
    assert {name.removeprefix(before) for name in one} == of_arms("arm_0", "arm_1")
    assert {name.removeprefix(before) for name in other} == of_arms("arm_2", "arm_3", "arm_4")
    assert learner | one | other == whole
    assert whole[f"{before}/arm_4/actor"]["actor_id"] == "arm_4"


def test_an_arm_that_joins_later_is_as_one_of_those_that_were_there(environment: dict[str, str]) -> None:
    made = plan(ARM, environment, **COMMON, arm="arm_1", arm_returns="true")
    there = {name: values for name, values in started(FLEET, environment).items() if name.startswith("/arm_1/")}
    assert parameters(made) == there
    (actor,) = (process for process in made.processes if process.node == "/arm_1/actor")
    for topic in ("learner/insert", "learner/policy", "metrics"):
        assert f"{topic}:=/{topic}" in actor.command


def test_each_of_a_fleet_may_have_two_arms(environment: dict[str, str]) -> None:
    found = started(FLEET, environment, task="lift_bar", arms="two")
    controllers = {name: values["arm"] for name, values in found.items() if name.endswith("/arm_controller")}
    assert controllers == {f"/arm_{n}/{arm}/arm_controller": arm for n in range(2) for arm in ("left", "right")}
    assert {"/arm_0/actor", "/arm_1/actor", "/fleet", "/learner"} <= found.keys()


def test_real_arms_join_in_namespaces_of_their_own(environment: dict[str, str]) -> None:
    own = {"arm_kind": "real", "reward": "human", "cameras": "false", "teleop": "gamepad"}
    one = started(ARM, environment, **own, arm="bench_a", driver="so101", port="/dev/ttyACM0")
    assert one.keys() == {
        f"/bench_a/{node}" for node in ("driver", "arm_controller", "reward_human", "teleop", "console", "actor")
    }
    assert (one["/bench_a/arm_controller"]["arm"], one["/bench_a/driver"]["port"]) == ("", "/dev/ttyACM0")
    assert one["/bench_a/actor"]["actor_id"] == "bench_a" and one["/bench_a/actor"]["simulated"] is False
    ports = {"left_port": "/dev/a", "right_port": "/dev/b"}
    two = started(ARM, environment, **own, arm="bench_b", driver="so101", task="lift_bar", arms="two", **ports)
    assert {name: two[name]["port"] for name in two if name.endswith("/driver")} == {
        "/bench_b/left/driver": "/dev/a",
        "/bench_b/right/driver": "/dev/b",
    }
    learner = started(FLEET, environment, side="learner", simulated="false")
    assert learner["/learner"]["simulated"] is False


@pytest.mark.parametrize(
    ("file", "wrong", "why"),
    [
        (FLEET, {"partner": "relocate_backward"}, "two tasks that take turns are learned by one arm"),
        (FLEET, {"link": "10.0.0.2:7447"}, "a link with keys is between one arm and its learner"),
        (FLEET, {"console": "true"}, "the console is of one arm"),
        (FLEET, {"raw": "bag"}, "a bag is of one arm"),
        (FLEET, {"arm_kind": "real"}, "fleet_arm.launch.xml for each"),
        (ARM, {"arm": "arm_7", "partner": "relocate_backward"}, "two tasks that take turns"),
        (ARM, {"arm": "arm_7", "link": "10.0.0.2:7447"}, "a link with keys"),
        (ARM, {"arm": "arm_7", "side": "learner"}, "an arm has no learner of its own"),
    ],
)
def test_what_is_for_one_arm_is_refused_in_one_line(
    environment: dict[str, str], file: Path, wrong: dict[str, str], why: str
) -> None:
    with pytest.raises(LaunchError, match=why) as caught:
        started(file, environment, **wrong)
    assert "\n" not in str(caught.value)
