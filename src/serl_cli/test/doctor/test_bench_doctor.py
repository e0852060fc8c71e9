# SPDX-License-Identifier: Apache-2.0
"""`serl doctor` at a bench with an emulated arm, sound and with faults planted in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serl_cli.app import main
from serl_cli.doctor.bench import Bench, bench_findings
from serl_cli.doctor.finding import Finding, Level
from serl_feetech.arm import ServoArm
from serl_feetech.emulated.servo import EmulatedServo
from serl_feetech.registers import HOMING_OFFSET, ID, LOCK, Register
from serl_sim.emulated.bench import EmulatedBench

from serl_tasks import get_task

Looked = Callable[..., dict[str, Finding]]


@pytest.fixture
def tick() -> SimpleNamespace:
    """How long each thing takes that the doctor times: 1 ms, however busy this machine is."""
    return SimpleNamespace(seconds=0.001)


@pytest.fixture
def bench(tmp_path: Path, tick: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedBench]:
    """A bench at which what is waited for has happened at once, and which is as quick as `tick` says."""
    with EmulatedBench(get_task("pick_cube_so101"), 0, tmp_path) as made:
        ticks = itertools.count()
        clock = SimpleNamespace(perf_counter=lambda: next(ticks) * tick.seconds)
        monkeypatch.setattr("serl_cli.doctor.servos.time", clock)
        waiting = SimpleNamespace(sleep=lambda seconds: made.change(lambda plant: plant.move(seconds)))
        monkeypatch.setattr("serl_cli.doctor.motions.time", waiting)
        monkeypatch.setattr(ServoArm, "go_to", heard(ServoArm.go_to))
        yield made


def heard(go_to: Callable[..., None]) -> Callable[..., None]:
    """`go_to` that is over when the servos have it: nothing answers a goal, so that it may wait in the port."""

    def go(arm: ServoArm, *goal: Any) -> None:
        go_to(arm, *goal)
        arm.read()

    return go


@pytest.fixture
def looked(bench: EmulatedBench, tmp_path: Path) -> Looked:
    """What is found at the bench; with an eye, its joints are moved and that eye sees them."""

    def look(*, robot: str = "", eye: Callable[[str, str], bool | None] = lambda _joint, _sentence: None) -> dict:
        found = Bench(port=str(tmp_path / "follower"), calibration=str(tmp_path / "follower.json"), robot=robot)
        return {finding.name: finding for finding in bench_findings(found, eye)}

    return look


def keep(servo: EmulatedServo, register: Register, value: int) -> None:
    """Write a register that outlasts the power, as a program of the maker does."""
    servo.write(LOCK.address, b"\0")
    servo.write(register.address, register.encode(value))
    servo.write(LOCK.address, b"\1")


def bad(found: dict[str, Finding]) -> list[str]:
    return [name for name, finding in found.items() if finding.level is Level.BAD]


def test_a_sound_arm_is_well_and_moves_as_a_person_sees_it(bench: EmulatedBench, looked: Looked) -> None:
    sentences = {}

    def eye(joint: str, sentence: str) -> bool:
        sentences[joint] = sentence
        return True

    found = looked(robot="so101", eye=eye)
    assert bad(found) == [], found
    assert list(found)[:4] == ["port", "servos", "faults", "firmware"]
    assert found["weight"].level is Level.GOOD
    assert set(sentences) == set(bench.plant.servos)
    assert sentences["shoulder_pan"] in {
        f"brought the tool {side}, seen from behind the base" for side in ("left", "right")
    }
    assert "clockwise" in sentences["wrist_roll"]
    assert not any(servo.torque_enabled for servo in bench.plant.servos.values()), "it lets go"


@pytest.mark.parametrize(
    ("seconds", "level", "wrong"),
    [(0.003, Level.GOOD, []), (0.005, Level.NOTE, []), (0.02, Level.BAD, ["round trip"])],
)
def test_a_bus_that_is_slow_is_told(
    looked: Looked, tick: SimpleNamespace, seconds: float, level: Level, wrong: list[str]
) -> None:
    tick.seconds = seconds
    found = looked()
    assert found["round trip"].level is level
    assert f"{1e3 * seconds:.1f} ms for all positions" in found["round trip"].text
    assert bad(found) == wrong


def test_an_arm_that_lets_go_late_is_not_to_be_switched_on(looked: Looked, tick: SimpleNamespace) -> None:
    tick.seconds = 0.2
    found = looked()
    assert found["torque off"].text == "took 200 ms"
    assert "torque off" in bad(found)


def test_a_wrong_id_is_told_from_a_servo_that_is_gone(bench: EmulatedBench, looked: Looked) -> None:
    bench.change(lambda plant: keep(plant.servos["elbow_flex"], ID, 13))
    found = looked(robot="so101")
    assert bad(found) == ["servos"]
    assert found["servos"].text == "expected 6 servos, found 5: 3 (elbow_flex) missing, and 13 answers"
    assert found["joints"].text == "not moved, as not all servos are well"


def test_a_servo_that_is_gone_is_named(bench: EmulatedBench, looked: Looked) -> None:
    bench.change(lambda plant: setattr(plant.servos["wrist_flex"], "silent", True))
    found = looked()
    assert found["servos"].text.endswith("4 (wrist_flex) missing")
    assert "cable" in found["servos"].advice


def test_two_servos_of_one_id_are_told(bench: EmulatedBench, looked: Looked) -> None:
    bench.change(lambda plant: keep(plant.servos["wrist_flex"], ID, 5))
    found = looked()
    assert found["servos"].level is Level.BAD
    assert "the same id" in found["servos"].advice


@pytest.mark.parametrize("joint", ["shoulder_lift", "elbow_flex"])
def test_weight_tells_of_a_joint_that_is_built_in_reversed(bench: EmulatedBench, looked: Looked, joint: str) -> None:
    bench.change(lambda plant: plant.build_in_reversed(joint))
    found = looked(robot="so101")
    assert "weight" in bad(found)
    assert found["weight"].text.startswith(joint)


def test_a_person_sees_a_joint_that_turns_the_other_way(bench: EmulatedBench, looked: Looked) -> None:
    bench.look()
    start = bench.view.arm_sample().tcp.position
    bench.change(lambda plant: plant.build_in_reversed("shoulder_pan"))

    def eye(joint: str, sentence: str) -> bool:
        bench.look()
        moved = bench.view.arm_sample().tcp.position[1] - start[1]
        return joint != "shoulder_pan" or ("left" in sentence) == bool(moved > 0.0)

    found = looked(robot="so101", eye=eye)
    assert bad(found) == ["shoulder_pan"], found
    assert found["shoulder_pan"].text == "did not move as its description says"


def test_an_arm_that_was_never_calibrated_is_not_moved(bench: EmulatedBench, looked: Looked) -> None:
    bench.change(lambda plant: keep(plant.servos["gripper"], HOMING_OFFSET, 0))
    found = looked(robot="so101")
    assert bad(found) == ["calibration"]
    assert "gripper has offset 0, 1933 to 3185, expected offset -96, 1933 to 3185" in found["calibration"].text
    assert "joints" in found


def test_a_servo_that_is_too_hot_is_named_with_its_temperature(bench: EmulatedBench, looked: Looked) -> None:
    bench.change(lambda plant: setattr(plant.servos["elbow_flex"], "temperature", 84.0))
    found = looked(robot="so101")
    assert bad(found) == ["faults"]
    assert "elbow_flex" in found["faults"].text
    assert "too hot" in found["faults"].text


def test_a_joint_that_something_blocks_does_not_move(bench: EmulatedBench, looked: Looked) -> None:
    def block(plant) -> None:  # type: ignore[no-untyped-def]
        joint = plant.world.model.joint("shoulder_pan")
        plant.world.model.jnt_range[joint.id] = np.array([-1e-3, 1e-3]) + plant.world.data.qpos[joint.qposadr[0]]

    bench.change(block)
    found = looked(robot="so101")
    assert "shoulder_pan" in bad(found)
    assert found["shoulder_pan"].advice.startswith("is something in its way")


def test_there_is_no_port_and_no_calibration(tmp_path: Path) -> None:
    nobody = Bench(port=str(tmp_path / "ttyACM7"), calibration=str(tmp_path / "none.json"))
    (found,) = bench_findings(nobody, lambda _joint, _sentence: None)
    assert found.name == "calibration"
    assert found.level is Level.BAD


def test_the_command_writes_a_report_and_ends_as_what_it_found(
    bench: EmulatedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("serl_cli.doctor.machine.findings", list)
    report = tmp_path / "bench.md"
    words = ["doctor", "--port", str(tmp_path / "follower"), "--calibration", str(tmp_path / "follower.json")]
    assert main([*words, "--report", str(report)]) == 0
    assert "| servos | ok | 6 of 6 answer |" in report.read_text(encoding="utf-8")
    bench.change(lambda plant: setattr(plant.servos["gripper"], "silent", True))
    assert main(words) == 1
    assert "6 (gripper) missing" in capsys.readouterr().out
    assert main(["doctor", "--port", "/dev/ttyACM0"]) == 2
