# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_config.schema import ConfigError
from serl_robots.model.pose import Pose, quaternion_exp, quaternion_multiply
from serl_tasks.episode_errors import ErrorSettings
from serl_tasks.kinds.insert import PEG, SOCKET, Insert

from serl_tasks import ArmSample, get_task

TASK = get_task("insert_peg")
CONNECTOR = get_task("insert_connector")
DOWN = (1.0, 0.0, 0.0, 0.0)
TIP_BELOW_TOOL, RIM = 0.04, 0.03  # [m], as the file says


def world(tip: tuple[float, float, float], yaw: float = 0.0) -> dict[str, Pose]:
    """A board that is turned about the vertical, and a peg whose tip is there, in the frame of the board's hole [m]."""
    board = Pose((0.5, 0.02, 0.0), quaternion_exp((0.0, 0.0, yaw)))
    tool = Pose(board.transform(np.add(tip, (0.0, 0.0, RIM + TIP_BELOW_TOOL))), DOWN)
    return {"tcp": tool, PEG: tool.compose(Pose((0.0, 0.0, 0.01))), SOCKET: board}


@given(st.floats(-0.006, 0.006), st.floats(-0.006, 0.006), st.floats(-0.03, 0.02), st.floats(-3.0, 3.0))
def test_a_tip_is_inserted_where_it_is_deep_in_the_hole(x: float, y: float, z: float, yaw: float) -> None:
    judgement = TASK.judge(world((x, y, z), yaw))
    clearly_in = np.hypot(x, y) < 0.00299 and z < -0.02001
    clearly_out = np.hypot(x, y) > 0.00301 or z > -0.01999
    assert not (clearly_in and not judgement.success)
    assert not (clearly_out and judgement.success)
    assert judgement.reward == float(judgement.success)
    assert judgement.terminated == judgement.success
    if clearly_in:
        assert TASK.distance_to_goal(world((0.0, 0.0, z), yaw)) == pytest.approx(0.0, abs=1e-9)
    way = TASK.distance_to_goal(world((x, y, z), yaw))
    assert way == pytest.approx(np.sqrt(x * x + y * y + max(0.0, z + 0.02) ** 2), abs=1e-9)


def act(tip: tuple[float, float, float], expert, pressed: float = 0.0):
    poses = world(tip)
    tool = poses["tcp"]
    commanded = Pose(tool.position - (0.0, 0.0, pressed), DOWN)
    return expert.act(ArmSample(tool, np.zeros(6), 0.024, 0.024, commanded), poses)


def test_the_expert_goes_above_the_hole_then_down_and_on_down() -> None:
    expert = TASK.make_expert(np.random.default_rng(0))
    x, y, z = act((0.02, -0.01, 0.02), expert)
    assert x == pytest.approx(-1.0)
    assert y == pytest.approx(1.0)
    assert z == pytest.approx(-1.0)
    assert act((0.0, 0.0, 0.02), expert) == pytest.approx((0.0, 0.0, -1.0))
    assert act((0.02, 0.0, 0.006), expert)[2] == pytest.approx(0.0), "it stays above until it is there"
    assert act((0.0, 0.0, -0.01), expert) == pytest.approx((0.0, 0.0, -1.0))


def test_where_there_is_no_hole_the_expert_presses_lightly_and_searches_in_a_widening_spiral() -> None:
    expert = TASK.make_expert(np.random.default_rng(0))
    # The tool stays where it is, so an action is the way to the next place of the spiral.
    ways = np.array([act((0.0, 0.0, 0.0), expert, pressed=0.005) for _ in range(16)]) * TASK.action.scale
    assert ways[:, 2] == pytest.approx(0.0), "it presses as much as before"
    radii = np.hypot(ways[:, 0], ways[:, 1])
    assert (np.diff(radii) > 0.0).all()
    steps = np.linalg.norm(np.diff(ways[:, :2], axis=0), axis=1)
    assert steps[3:] == pytest.approx(expert.ARC, rel=0.15)
    # Turns are a pitch apart, so what is searched grows by an area of pitch times arc with each step.
    assert radii[-1] == pytest.approx(np.sqrt(16 * expert.PITCH * expert.ARC / np.pi), rel=1e-6)
    expert.reset()
    assert act((0.0, 0.0, 0.0), expert, pressed=0.005) * TASK.action.scale == pytest.approx(ways[0])


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_with_rz_the_expert_turns_the_peg_as_the_hole_is_turned_before_it_goes_down(board: float, peg: float) -> None:
    socket = Pose((0.5, 0.02, 0.0), quaternion_exp((0.0, 0.0, board)))
    down = quaternion_multiply(quaternion_exp((0.0, 0.0, peg)), DOWN)
    tool = Pose(np.add(socket.position, (0.0, 0.0, RIM + TIP_BELOW_TOOL + 0.006)), down)
    arm = ArmSample(tool, np.zeros(6), 0.01, 0.01, tool)
    *_, height, turn = CONNECTOR.make_expert(np.random.default_rng(0)).act(arm, {SOCKET: socket})
    assert turn == pytest.approx(np.clip((board - peg) / 0.1, -1.0, 1.0), abs=1e-5)
    if abs(board - peg) > 0.0501:
        assert height == pytest.approx(0.0, abs=1e-5)
    elif abs(board - peg) < 0.0499:
        assert height < -0.9


def test_an_expert_without_a_deviation_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a standard deviation from 0, found -1"):
        TASK.make_expert(np.random.default_rng(0), noise=-1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "objects": {PEG: TASK.objects[PEG]},
                "errors": ErrorSettings(),
                "start": replace(TASK.start, beside=None),
                "state": TASK.state[2:],
            },
            "expected one named 'socket' whose mount is fixed, found none",
        ),
        (
            {"objects": {**TASK.objects, PEG: TASK.objects[SOCKET]}},
            "expected one named 'peg' whose mount is held, found fixed",
        ),
        ({"start": replace(TASK.start, beside=PEG)}, "start.beside: expected an object that is not held, found 'peg'"),
        ({"start": replace(TASK.start, beside="hole")}, "start.beside: expected an object that is not held"),
        ({"discount": 1.0}, "discount"),
        (
            {"action": replace(TASK.action, names=("dx", "dy", "rz")), "state": TASK.state},
            "action.names: expected dx dy dz, and rz or not, found dx dy rz",
        ),
    ],
)
def test_a_task_without_peg_and_socket_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        replace(TASK, **changes)


@given(st.integers(0, 2**32))
def test_the_tool_starts_beside_where_the_hole_is_known_to_be(seed: int) -> None:
    assert isinstance(TASK, Insert)
    rng = np.random.default_rng(seed)
    known = {SOCKET: Pose((0.46, 0.03, 0.0))}
    start = TASK.start_pose(rng, known)
    x, y, z = start.position - known[SOCKET].position
    assert max(abs(x), abs(y)) <= 0.02
    assert z == pytest.approx(0.09)
    assert start.quaternion.tolist() == list(DOWN)
    assert TASK.start_pose(np.random.default_rng(seed), known) == start
    assert TASK.middle_start.position == pytest.approx((0.5, 0.0, 0.09))
