# SPDX-License-Identifier: Apache-2.0
"""Whatever happens, in whatever order: every command keeps the limits."""

import numpy as np
import pytest
from controller_rig import Rig, panda
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.benchmarks.storm import Ratios, Storm, Watch, random_limits
from serl_robots.control.control_step import Command
from serl_robots.model.pose import Pose
from serl_robots.safety.source import Source


@given(seed=st.integers(0, 2**32 - 1), is_lockstep=st.booleans(), joints=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_happens_every_command_keeps_the_limits(seed: int, is_lockstep: bool, joints: bool) -> None:
    robot, kinematics = panda()
    rng = np.random.default_rng(seed)
    ratios = Ratios()
    storm = Storm(
        robot, kinematics, random_limits(rng, robot.gripper), rng, ratios, lockstep=is_lockstep, joints=joints
    )
    storm.run(60 if joints else 200)
    for name in ("acceleration", "speed", "early"):
        assert getattr(ratios, name) <= 1.0 + 1e-6, (name, ratios.where)
    assert ratios.outside <= 1e-9, ratios.where
    storm.do_estop()
    assert storm.controller.safety.estop
    storm.do_release()
    assert not storm.controller.safety.estop


def test_the_watch_of_the_storm_sees_a_jump() -> None:
    ratios = Ratios()
    rig = Rig(lockstep=True)
    watch = Watch(rig.limits, ratios, lockstep=True)
    measured = rig.controller.measured
    assert measured is not None
    for offset in (0.0, 0.01, 0.02, 0.0):  # 0.1 m/s, then back at once: 3 m/s^2
        target = Pose(measured.tcp.position + np.array([offset, 0.0, 0.0]), measured.tcp.quaternion)
        watch.see(Command(measured.stamp_ns, Source.POLICY, target, 0.04), measured, 0.0, "")
    assert ratios.acceleration == pytest.approx(3.0 / rig.limits.max_acceleration)
