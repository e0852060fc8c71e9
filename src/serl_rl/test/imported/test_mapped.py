# SPDX-License-Identifier: Apache-2.0
"""What stands between a task and a foreign policy: names, orders and units, checked against sums done by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_config.schema import ConfigError, build
from serl_rl.imported.mapped import MappedPolicy
from serl_rl.imported.mapping import PolicyMapping
from serl_rl.spec import DataError, TransitionSpec


def spec_of(actions: dict[str, float], state: dict[str, tuple[float, float]]) -> TransitionSpec:
    """A task with these components and scales of actions, values with shift and scale of the state, and a camera."""
    return TransitionSpec(
        {"state": ((len(state),), "float32"), "front": ((8, 6, 3), "uint8")},
        len(actions),
        meaning={
            "action": [{"name": name, "scale": scale} for name, scale in actions.items()],
            "state": [{"name": name, "shift": shift, "scale": scale} for name, (shift, scale) in state.items()],
        },
    )


TOOL = spec_of(
    {"dx": 0.04, "dy": 0.02, "gripper": 0.08}, {"tcp_position[0]": (0.5, 0.15), "gripper_width[0]": (0.04, 0.04)}
)
JOINTS = spec_of({"j1": 0.1, "j2": 0.05}, {"joint_positions[1]": (0.2, 2.0), "joint_positions[0]": (-1.0, 0.5)})


class Foreign:
    """A policy that says what it is told to, and keeps what it was given."""

    planned = 0

    def __init__(self, inputs: dict[str, tuple[int, ...]], answer: list[float]) -> None:
        self.inputs, self.outputs, self.answer = inputs, len(answer), np.array(answer, np.float32)
        self.given: dict[str, NDArray[Any]] = {}
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(self, inputs: Any) -> NDArray[np.float32]:
        self.given = dict(inputs)
        return self.answer


def mapping(**values: Any) -> PolicyMapping:
    return build(PolicyMapping, values, "mapping.yaml")


def observation(*state: float) -> dict[str, NDArray[Any]]:
    picture = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    return {"state": np.array(state, np.float32), "front": picture}


def test_without_a_mapping_the_numbers_are_those_of_the_task():
    policy = Foreign({"observation.state": (2,), "observation.images.front": (8, 6, 3)}, [0.5, -2.0, 0.25])
    action = MappedPolicy(policy, TOOL, mapping()).act(observation(0.1, -0.2), deterministic=True)
    np.testing.assert_allclose(action, [0.5, -1.0, 0.25])  # beyond the bounds is at them
    np.testing.assert_allclose(policy.given["observation.state"], [0.1, -0.2], rtol=1e-6)
    np.testing.assert_array_equal(policy.given["observation.images.front"], observation(0, 0)["front"])


def test_tool_deltas_in_other_units_and_another_order():
    policy = Foreign({"s": (2,)}, [40.0, 10.0, -30.0])  # percent open, mm, mm
    made = MappedPolicy(
        policy,
        TOOL,
        mapping(
            vectors={
                "s": [
                    {"name": "gripper_width[0]", "unit": "mm"},
                    {"name": "tcp_position[0]", "unit": "cm", "scale": 2.0, "offset": 1.0},
                ]
            },
            actions="tool_deltas",
            components=[
                {"name": "gripper", "unit": "percent"},
                {"name": "dy", "unit": "mm"},
                {"name": "dx", "unit": "mm"},
            ],
        ),
    )
    action = made.act(observation(0.2, 0.5), deterministic=True)
    # the tool is at 0.5 + 0.2 * 0.15 = 0.53 m, the gripper open by 0.04 + 0.5 * 0.04 = 0.06 m
    np.testing.assert_allclose(policy.given["s"], [60.0, 2.0 * 53.0 + 1.0], rtol=1e-5)
    np.testing.assert_allclose(action, [-0.75, 0.5, 2 * 0.4 - 1], rtol=1e-5)


def test_offsets_and_scales_of_what_the_policy_gives_are_taken_off():
    """The policy's number is scale * (number in the unit) + offset: 90 = 2 * 40 mm + 10, half of what opens widest."""
    components = [
        {"name": "gripper", "unit": "mm", "scale": 2.0, "offset": 10.0},
        {"name": "dx", "unit": "mm", "offset": 5.0},
        {"name": "dy", "scale": 0.5, "offset": -0.1},
    ]
    made = MappedPolicy(Foreign({}, [90.0, 25.0, 0.2]), TOOL, mapping(components=components))
    np.testing.assert_allclose(made.act(observation(0, 0), deterministic=True), [0.5, 0.6, 0.0], atol=1e-6)


def test_joint_positions_become_changes_of_what_is_observed():
    policy = Foreign({}, [50.0, -40.0])
    made = MappedPolicy(
        policy,
        JOINTS,
        mapping(actions="joint_positions", components=[{"name": "j1", "unit": "deg"}, {"name": "j2", "unit": "deg"}]),
    )
    now = {"j1": math.radians(48.0), "j2": math.radians(-39.0)}
    state = ((now["j2"] - 0.2) / 2.0, (now["j1"] + 1.0) / 0.5)
    action = made.act(observation(*state), deterministic=True)
    np.testing.assert_allclose(action, [math.radians(2.0) / 0.1, math.radians(-1.0) / 0.05], rtol=1e-4)


def test_a_gripper_that_stays_keeps_the_command_that_is_observed():
    spec = spec_of({"dx": 0.04, "gripper": 0.08}, {"gripper_target[0]": (0.04, 0.02)})
    policy = Foreign({}, [0.5, 1.0])  # closes at 0, stays at 1, opens at 2
    gripper = {"name": "gripper", "offset": 1.0, "stay": 1.0}
    made = MappedPolicy(policy, spec, mapping(components=[{"name": "dx"}, gripper]))
    # commanded is 0.04 + 0.5 * 0.02 = 0.05 m of 0.08 m
    np.testing.assert_allclose(made.act(observation(0.5), deterministic=True), [0.5, 0.25], rtol=1e-5)
    for said, done in ((0.0, -1.0), (2.0, 1.0)):
        policy.answer[1] = said
        np.testing.assert_allclose(made.act(observation(0.5), deterministic=True), [0.5, done])
    with pytest.raises(DataError, match=r"components\.gripper\.stay: expected a task that observes gripper_target"):
        MappedPolicy(policy, spec_of({"dx": 1.0, "gripper": 1.0}, {"s": (0, 1)}), made._mapping)
    with pytest.raises(DataError, match=r"components\.dx\.stay"):
        MappedPolicy(policy, spec, mapping(components=[{"name": "dx", "stay": 0.0}, {"name": "gripper"}]))


@pytest.mark.parametrize(
    ("spec", "values", "words"),
    [
        (TOOL, {"actions": "joint_deltas"}, "joint_deltas of a task whose actions move joints.*dx, dy, gripper"),
        (TOOL, {"actions": "joint_positions"}, "joint_positions of a task whose actions move joints"),
        (JOINTS, {"actions": "tool_deltas"}, "tool_deltas of a task whose actions are those.*j1, j2"),
        (JOINTS, {"components": [{"name": "j1"}]}, "2 components"),
        (TOOL, {"components": [{"name": "dx"}, {"name": "dz"}, {"name": "gripper"}]}, "dx, dy, gripper"),
        (TOOL, {"vectors": {"s": [{"name": "cube[0]"}]}}, r"vectors\.s.*tcp_position\[0\].*cube"),
        (TOOL, {"vectors": {"t": [{"name": "tcp_position[0]"}]}}, r"mapping\.vectors.*found t"),
        (TOOL, {"cameras": {"front": "wrist"}}, r"cameras\.front.*front.*wrist"),
        (TOOL, {}, r"vectors\.s.*expected \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(spec, values, words):
    width = 1 if not values or "vectors" in values else 2
    policy = Foreign({"s": (width,), "front": (8, 6, 3)}, [0.0] * spec.action_dim)
    with pytest.raises(DataError, match=words):
        MappedPolicy(policy, spec, mapping(**values))


def test_joint_positions_need_a_task_that_observes_the_joints():
    blind = spec_of({"j1": 0.1}, {"tcp_position[0]": (0.0, 1.0)})
    with pytest.raises(DataError, match=r"observes joint_positions\[0\]"):
        MappedPolicy(
            Foreign({}, [0.0]), blind, mapping(actions="joint_positions", components=[{"name": "j1", "unit": "rad"}])
        )


def test_pictures_of_another_size_are_resized_where_the_camera_is_named():
    policy = Foreign({"images.top": (4, 3, 3)}, [0.0] * 3)
    with pytest.raises(DataError, match=r"images\.top"):
        MappedPolicy(policy, TOOL, mapping())
    MappedPolicy(policy, TOOL, mapping(cameras={"images.top": "front"})).act(observation(0, 0), deterministic=True)
    whole = observation(0, 0)["front"].astype(float)
    expected = whole.reshape(4, 2, 3, 2, 3).mean(axis=(1, 3))
    assert np.abs(policy.given["images.top"] - expected).max() <= 1.0


def test_it_looks_again_after_as_many_steps_as_the_mapping_says():
    policy = Foreign({}, [0.0] * 3)
    made = MappedPolicy(policy, TOOL, mapping(execute=2))
    for _ in range(5):
        made.act(observation(0, 0), deterministic=True)
    assert policy.resets == 2
    policy.planned = 5
    assert made.planned == 1  # one of two steps is done
    made.reset()
    assert made.planned == 2


def test_an_action_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="finite"):
        MappedPolicy(Foreign({}, [0.0, float("nan"), 0.0]), TOOL, mapping()).act(observation(0, 0), deterministic=True)


def test_a_mapping_file_has_known_keys_only():
    with pytest.raises(ConfigError, match="camera"):
        mapping(camera={"front": "front"})
