# SPDX-License-Identifier: Apache-2.0
"""A run's numbers survive kills, restarts and full disks, and foreign files are left alone."""

import math
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_training.learner.run_log import (
    COLUMNS,
    METRICS_FILE,
    TENSORBOARD_DIR,
    Entry,
    RunLog,
    RunLogError,
    entries_after,
    read_metrics,
)
from tensorboardX.proto.event_pb2 import Event

HEADER = ",".join(COLUMNS) + "\n"


def _event_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / TENSORBOARD_DIR).iterdir())


def _events(path: Path) -> list[Event]:
    """Reads a TFRecord file: length (uint64), its CRC, the bytes, their CRC."""
    data, at, events = path.read_bytes(), 0, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        events.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += 12 + length + 4
    return events


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write("learner", 100, {"learner/critic_loss": 0.1, "learner/q_mean": -2.0})
        log.write("learner", 250, {"learner/critic_loss": 1 / 3})
    metrics = read_metrics(tmp_path)
    assert set(metrics) == {"learner/critic_loss", "learner/q_mean"}
    np.testing.assert_array_equal(metrics["learner/critic_loss"].env_steps, [100, 250])
    np.testing.assert_array_equal(metrics["learner/critic_loss"].value, [0.1, 1 / 3])
    assert np.all(np.diff(metrics["learner/critic_loss"].wall_time) >= 0)


@pytest.mark.parametrize("space", ["", "lab/"])
def test_how_far_a_fleet_gets_alone_is_what_it_tells_over_all_arms(tmp_path: Path, space: str) -> None:
    name = "autonomy/led_steps"
    rows = (
        (f"{space}actor", 0.1),  # the run began with one arm
        (f"{space}arm_0/actor", 0.2),  # before the fleet has told of it
        (f"{space}fleet", 0.3),
        (f"{space}arm_1/actor", 0.9),
        (f"{space}fleet", 0.6),
        (f"{space}actor", 0.4),  # and goes on with one
    )
    with RunLog(tmp_path) as log:
        for node, value in rows:
            log.write(node, 1, {name: value, "train/success": value})
    metrics = read_metrics(tmp_path)
    np.testing.assert_array_equal(metrics[name].value, [0.1, 0.2, 0.3, 0.6, 0.4])
    assert len(metrics["train/success"].value) == len(rows)


@settings(max_examples=25, deadline=None)
@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=20),
    value=st.floats(allow_nan=True),
    env_steps=st.integers(0, 2**62),
)
def test_any_name_and_number_round_trips(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: float, env_steps: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    with RunLog(run_dir) as log:
        log.write("node, with a comma", env_steps, {name: value})
    series = read_metrics(run_dir)[name]
    assert series.env_steps[0] == env_steps
    assert series.value[0] == value or (math.isnan(value) and math.isnan(series.value[0]))


def test_a_number_is_on_disk_before_the_log_is_closed(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("actor", 1, {"train/success": 1.0})
    assert read_metrics(tmp_path)["train/success"].value[0] == 1.0
    log.close()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_dropped_and_the_log_continues_after_it(tmp_path: Path, cut: int) -> None:
    with RunLog(tmp_path) as log:
        log.write("actor", 1, {"train/success": 0.0})
        log.write("actor", 2, {"train/success": 1.0})
    path = tmp_path / METRICS_FILE
    os.truncate(path, path.stat().st_size - cut)
    np.testing.assert_array_equal(read_metrics(tmp_path)["train/success"].env_steps, [1])
    with RunLog(tmp_path) as log:
        log.write("actor", 3, {"train/success": 1.0})
    np.testing.assert_array_equal(read_metrics(tmp_path)["train/success"].env_steps, [1, 3])


def test_a_torn_header_is_written_again(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text(HEADER[:7])
    assert read_metrics(tmp_path) == {}
    with RunLog(tmp_path) as log:
        log.write("actor", 3, {"train/success": 1.0})
    assert (tmp_path / METRICS_FILE).read_text().startswith(HEADER)
    assert len(read_metrics(tmp_path)["train/success"].value) == 1


def test_a_foreign_file_is_refused_and_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    path.write_text("step,loss\n1,2\n")
    with pytest.raises(RunLogError, match="not a metrics file"):
        RunLog(tmp_path)
    with pytest.raises(RunLogError, match="not a metrics file"):
        read_metrics(tmp_path)
    assert path.read_text() == "step,loss\n1,2\n"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/full")])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / METRICS_FILE)
    with pytest.raises(RunLogError, match=r"metrics\.csv: (expected a file|cannot be opened)"):
        RunLog(tmp_path)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text(HEADER + "1.0,1,actor,a,1.0\n1.0,oops,actor,a,1.0\n1.0,2,actor,a,1.0\n")
    with pytest.raises(RunLogError, match=r"metrics\.csv:3"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("room", [0, 15])
def test_a_full_disk_raises_and_keeps_what_was_written(tmp_path: Path, room: int) -> None:
    log = RunLog(tmp_path)
    log.write("actor", 1, {"train/success": 1.0})
    path = tmp_path / METRICS_FILE
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with pytest.raises(RunLogError, match=r"metrics\.csv: cannot be written"):
            log.write("actor", 2, {"train/success": 0.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    log.write("actor", 3, {"train/success": 0.0})
    np.testing.assert_array_equal(read_metrics(tmp_path)["train/success"].env_steps, [1, 3])


def test_nothing_written_reads_as_nothing(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == {}


def test_tensorboard_gets_the_same_numbers_and_each_start_its_own_file(tmp_path: Path) -> None:
    for step in (10, 20):
        with RunLog(tmp_path) as log:
            log.write("learner", step, {"learner/q_mean": 0.5, "learner/entropy": float(step)})
    files = _event_files(tmp_path)
    assert len(files) == 2
    scalars = {(e.step, v.tag): v.simple_value for f in files for e in _events(f) for v in e.summary.value}
    assert scalars[10, "learner/q_mean"] == 0.5
    assert scalars[20, "learner/entropy"] == 20.0


def test_a_file_that_is_deleted_is_not_written_in_silence(tmp_path):
    with RunLog(tmp_path) as log:
        log.write("learner", 1, {"loss": 0.5})
        (tmp_path / "metrics.csv").unlink()
        with pytest.raises(RunLogError, match=r"metrics\.csv: was deleted"):
            log.write("learner", 2, {"loss": 0.5})


def test_who_follows_the_numbers_gets_each_once_and_no_half_of_a_line(tmp_path):
    assert entries_after(tmp_path, 0) == ([], 0)
    with RunLog(tmp_path) as log:
        log.write("learner", 1, {"loss": 0.5, "q": 2.0})
        first, position = entries_after(tmp_path, 0)
        log.write("actor", 3, {"success": 1.0})
        log.write("actor", 3, {"success": 0.0})
    path = tmp_path / METRICS_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    second, position = entries_after(tmp_path, position)
    path.write_bytes(whole)
    third, position = entries_after(tmp_path, position)
    assert [(e.env_steps, e.node, e.values) for e in [*first, *second, *third]] == [
        (1, "learner", {"loss": 0.5, "q": 2.0}),
        (3, "actor", {"success": 1.0}),
        (3, "actor", {"success": 0.0}),
    ]
    assert (position, entries_after(tmp_path, position)) == (len(whole), ([], len(whole)))
    assert isinstance(first[0], Entry) and first[0].wall_time <= third[0].wall_time


def test_what_is_no_such_file_is_not_followed(tmp_path):
    (tmp_path / METRICS_FILE).write_text("step,loss\n1,2\n")
    with pytest.raises(RunLogError, match="not a metrics file"):
        entries_after(tmp_path, 0)
    (tmp_path / METRICS_FILE).write_text(HEADER + "1.0,oops,actor,a,1.0\n")
    with pytest.raises(RunLogError, match="after byte 0"):
        entries_after(tmp_path, 0)
