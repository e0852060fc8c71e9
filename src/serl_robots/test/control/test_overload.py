# SPDX-License-Identifier: Apache-2.0
"""An arm that pushes too hard gives way, and is stopped where it pushes far too hard."""

import numpy as np
import pytest
from controller_rig import FORWARD, PERIOD, Rig
from serl_robots.control.move_to import MoveRejected
from serl_robots.safety.overload import Loads
from serl_robots.safety.source import Source

LIMITS = {"max_force": 30.0, "max_torque": 10.0, "max_effort": (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)}
FREE = Loads(1.0, 0.1, (1.0,) * 7)
PUSHES = {
    "force": Loads(35.0, 0.1, FREE.efforts),
    "torque": Loads(1.0, 12.0, FREE.efforts),
    "effort": Loads(1.0, 0.1, (1.0, 1.0, 1.0, 1.0, -14.0, 1.0, 1.0)),
}


def contact(*, lockstep: bool = True, **limits: float) -> Rig:
    """An arm in front of something hard, which has been driven against it by two steps."""
    rig = Rig(lockstep=lockstep, start=False, **LIMITS, **limits)
    rig.loads = FREE
    rig.state()
    rig.blocked = True
    for step in range(2):
        push(rig, step)
    return rig


def push(rig: Rig, step: int) -> None:
    """One step of a policy that pushes on."""
    rig.policy(1, step, *FORWARD)
    if rig.lockstep:
        rig.state()
    else:
        rig.states(PERIOD)


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("limit", PUSHES)
def test_an_arm_that_pushes_too_hard_gives_way_and_says_so(lockstep: bool, limit: str) -> None:
    rig = contact(lockstep=lockstep)
    here = rig.tcp.position[0]
    assert rig.x > here + 0.03, "what was commanded is behind the wall"
    rig.loads = PUSHES[limit]
    rig.state() if lockstep else rig.states(PERIOD)
    for step in range(2, 5):
        push(rig, step)
    assert rig.x == pytest.approx(here, abs=1e-6), "the target goes back to where the arm is"
    executed = rig.commands[-1].executed
    assert executed is not None and abs(executed[0]) < 1e-6, "and that is what is learned from"
    assert limit in rig.commands[-1].limits
    assert limit in rig.safety.reason and "gives way" in rig.safety.reason
    assert not rig.safety.estop
    rig.loads = FREE
    rig.state() if lockstep else rig.states(PERIOD)
    push(rig, 5)
    assert rig.x == pytest.approx(here + 0.02, abs=1e-6), "free again, it does what it is told"
    assert limit not in rig.commands[-1].limits


def test_a_knock_shorter_than_the_overload_time_is_none() -> None:
    rig = contact(lockstep=False, overload_time=0.05)
    rig.loads = PUSHES["force"]
    for _ in range(4):  # states of 10 ms
        rig.state()
    assert rig.controller.safety.counts["force"] == 0
    rig.loads = FREE
    rig.states(PERIOD)
    rig.loads = PUSHES["force"]
    for _ in range(4):
        rig.state()
    push(rig, 2)  # goes on meanwhile
    assert rig.controller.safety.counts["force"] <= 1


@pytest.mark.parametrize("lockstep", [True, False])
def test_an_arm_that_pushes_far_too_hard_is_stopped_until_somebody_releases_it(lockstep: bool) -> None:
    rig = contact(lockstep=lockstep)
    rig.loads = Loads(46.0, 0.1, FREE.efforts)
    rig.state()
    assert rig.safety.estop and rig.safety.key == "force"
    assert "force 46.0 N at the tool, at most 30 N; the arm is stopped" in rig.safety.reason
    rig.loads = FREE
    rig.policy(1, 2, *FORWARD)
    for _ in range(10):
        rig.state()
    assert rig.commands[-1].source == Source.ESTOP
    with pytest.raises(MoveRejected, match="latched"):
        rig.move_to_pose(rig.tcp.position)
    rig.controller.reset_estop()
    assert not rig.safety.estop


def test_a_motion_that_meets_something_ends_with_the_reason() -> None:
    rig = contact(lockstep=False)
    rig.states(1.0)
    rig.move_to_pose(rig.tcp.position + np.array([0.1, 0.0, 0.0]))
    rig.states(0.3)
    rig.loads = PUSHES["torque"]
    rig.states(0.5)
    (outcome,) = rig.outcomes
    assert outcome.termination_reason == "preempted"
    assert "torque 12.0 Nm at the tool, at most 10 Nm" in outcome.message
    assert rig.commands[-1].target.distance(rig.tcp) < 1e-3, "and pushes no longer"


@pytest.mark.parametrize(
    ("loads", "said"),
    [(Loads(efforts=FREE.efforts), "no fresh wrench"), (Loads(1.0, 0.1), "no efforts in joint_states")],
)
def test_nothing_moves_while_a_load_that_a_limit_asks_for_is_unknown(loads: Loads, said: str) -> None:
    rig = Rig(lockstep=False, **LIMITS, start=False)
    rig.loads = loads
    rig.states(0.5)
    assert said in rig.safety.reason
    rig.policy(1, 0, *FORWARD)
    assert not [command for command in rig.commands if command.executed is not None]
    rig.loads = FREE
    rig.states(0.5)
    rig.policy(1, 1, *FORWARD)
    rig.states(PERIOD)
    assert rig.commands[-1].executed is not None, "and goes on once it is known"


def test_loads_that_no_limit_asks_for_stop_nothing() -> None:
    rig = Rig(lockstep=True)
    rig.loads = Loads(900.0, 100.0, (500.0,) * 7)
    rig.state()
    rig.policy(1, 0, *FORWARD)
    assert rig.commands[-1].limits == ()
