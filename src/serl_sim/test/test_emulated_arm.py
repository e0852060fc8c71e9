# SPDX-License-Identifier: Apache-2.0
"""An arm of servos in a simulated world: it moves by its bus alone, and feels what is real about an arm."""

from pathlib import Path

import numpy as np
import pytest
from serl_feetech.arm import ServoArm
from serl_feetech.bus import Bus
from serl_feetech.calibration import Calibration, read_calibration
from serl_feetech.emulated.bus import EmulatedBus, EmulatedPort
from serl_feetech.port import SerialPort
from serl_sim.emulated.bench import EmulatedBench
from serl_sim.emulated.servo_plant import ServoPlant, calibration_of
from serl_sim.world import World

from serl_feetech import registers
from serl_tasks import get_task

STEP = 2.0 * np.pi / registers.TURN  # [rad]


class Rig:
    """An arm on a bus in this process, in a time of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.world = World(get_task("pick_cube_so101"))
        self.calibration: Calibration = calibration_of(self.world)
        self.plant = ServoPlant(self.world, self.calibration)
        self.wire = EmulatedBus(self.plant.servos.values(), lambda: self.now, self.plant.move)
        self.bus = Bus(EmulatedPort(self.wire))
        self.arm = ServoArm(self.bus, self.calibration, "so101.json")

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            self.wire.advance()

    def read(self, register: registers.Register, name: str) -> int:
        return self.bus.read(self.calibration[name].id, register)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_angles_that_its_bus_tells_are_those_of_the_model(rig: Rig) -> None:
    joints = rig.world.joint_positions
    np.testing.assert_allclose(rig.arm.read().angles, joints[:-1], atol=1.5 * STEP)
    lower, upper = rig.world.model.joint("gripper").range
    assert rig.arm.read().gripper == pytest.approx((joints[-1] - lower) / (upper - lower), abs=2e-3)


def test_it_stays_where_somebody_holds_it_then_holds_itself_and_falls_without_torque(rig: Rig) -> None:
    start = rig.world.arm_sample().tcp.position
    rig.run(1.0)
    np.testing.assert_allclose(rig.world.arm_sample().tcp.position, start, atol=1e-3)
    rig.arm.hold(1.0)
    rig.run(1.0)
    np.testing.assert_allclose(rig.world.arm_sample().tcp.position, start, atol=6e-3)  # it gives way a little
    rig.arm.let_go()
    rig.run(1.0)
    assert rig.world.arm_sample().tcp.position[2] < start[2] - 0.03


def test_it_goes_where_it_is_sent_and_no_faster_than_a_servo(rig: Rig) -> None:
    rig.arm.hold(1.0)
    goal = rig.arm.read().angles + np.array([1.0, 0.0, 0.0, 0.0, -0.5])
    rig.arm.go_to(goal, 0.2)
    fastest = 0.0
    for _ in range(50):
        rig.run(0.02)
        fastest = max(fastest, abs(rig.read(registers.PRESENT_VELOCITY, "shoulder_pan")) * STEP)
    assert 1.0 < fastest < 4.8  # [rad/s]
    np.testing.assert_allclose(rig.arm.read().angles, goal, atol=0.03)


def test_load_current_and_temperature_tell_of_weight(rig: Rig) -> None:
    rig.arm.hold(1.0)
    rig.run(0.5)
    before = rig.plant.servos["elbow_flex"].temperature
    rig.run(4.0)
    # The fore arm hangs forward, and the servo holds it up; nothing pulls at the pan.
    assert rig.read(registers.PRESENT_LOAD, "elbow_flex") < -40
    assert abs(rig.read(registers.PRESENT_LOAD, "shoulder_pan")) < 20
    assert rig.read(registers.PRESENT_CURRENT, "elbow_flex") > rig.read(registers.PRESENT_CURRENT, "shoulder_pan")
    assert rig.plant.servos["elbow_flex"].temperature > before


def test_less_torque_does_not_hold_the_arm(rig: Rig) -> None:
    rig.arm.hold(1.0)
    rig.run(0.5)
    height = rig.world.arm_sample().tcp.position[2]
    rig.arm.limit_torque(0.03)
    rig.run(1.0)
    assert rig.world.arm_sample().tcp.position[2] < height - 0.03


def test_objects_are_put_in_place_and_the_arm_stays(rig: Rig) -> None:
    rig.arm.hold(1.0)
    rig.run(0.5)
    joints = rig.world.joint_positions
    rig.plant.place_objects(5)
    np.testing.assert_array_equal(rig.world.joint_positions, joints)
    other = World(get_task("pick_cube_so101"))
    other.reset(5)
    assert rig.world.objects()["cube"].distance(other.objects()["cube"]) < 1e-9
    rig.run(0.5)
    np.testing.assert_allclose(rig.world.joint_positions, joints, atol=0.01)


def test_a_servo_that_is_built_in_reversed_says_that_it_went_where_it_was_sent(rig: Rig) -> None:
    rig.plant.build_in_reversed("shoulder_pan")
    rig.arm.hold(1.0)
    start, told = rig.world.joint_positions[0], rig.arm.read().angles
    rig.arm.go_to(told + np.array([0.2, 0.0, 0.0, 0.0, 0.0]), 0.5)
    rig.run(1.0)
    assert rig.arm.read().angles[0] - told[0] == pytest.approx(0.2, abs=0.02)
    assert rig.world.joint_positions[0] - start == pytest.approx(-0.2, abs=0.02)


def test_a_bench_is_a_folder_with_two_arms_at_serial_ports(tmp_path: Path) -> None:
    with EmulatedBench(get_task("pick_cube_so101"), 3, tmp_path) as bench:
        calibration = read_calibration(tmp_path / "follower.json")
        arm = ServoArm(Bus(SerialPort(str(tmp_path / "follower")), timeout=1.0), calibration, "follower.json")
        arm.hold(1.0)
        assert bench.look() == ""
        np.testing.assert_allclose(arm.read().angles, bench.view.arm_positions, atol=0.02)
        leader = ServoArm(
            Bus(SerialPort(str(tmp_path / "leader")), timeout=1.0),
            read_calibration(tmp_path / "leader.json"),
            "leader.json",
        )
        bench.hold_leader([0.3, -0.2, 0.1, 0.4, 0.0, 0.5])
        np.testing.assert_allclose(leader.read().angles, [0.3, -0.2, 0.1, 0.4, 0.0], atol=2 * STEP)
        arm.close()
        leader.close()
    assert not (tmp_path / "follower").exists()
