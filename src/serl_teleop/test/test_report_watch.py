# SPDX-License-Identifier: Apache-2.0
"""Whoever waits for devices is told at once, and never kept busy."""

import os
import queue
import time

import pytest
from serl_teleop.devices.report_watch import SHORTEST_PAUSE, ReportWatch


@pytest.fixture
def told():
    return queue.SimpleQueue()


@pytest.fixture
def watch(told):
    watch = ReportWatch(lambda: told.put(time.monotonic()))
    yield watch
    watch.close()
    watch.close()


@pytest.fixture
def pipe():
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    for each in (read, write):
        try:
            os.close(each)
        except OSError:  # closed by the test
            continue


def test_a_report_is_told_once_until_somebody_has_read_it(watch, told, pipe):
    read, write = pipe
    watch.watch([read])
    os.write(write, b"a")
    told.get(timeout=10.0)
    os.write(write, b"b")
    with pytest.raises(queue.Empty):  # nobody has read, so nobody asks again
        told.get(timeout=0.1)
    watch.watch([read])
    told.get(timeout=10.0)
    os.read(read, 10)
    watch.watch([read])
    with pytest.raises(queue.Empty):
        told.get(timeout=0.1)


def test_a_device_that_is_gone_is_told_and_one_with_its_number_is_watched_anew(watch, told, pipe):
    read, write = pipe
    watch.watch([read])
    os.close(write)
    told.get(timeout=10.0)
    os.close(read)
    again, end = os.pipe()
    try:
        assert again == read, "the kernel gives the lowest number"
        watch.watch([again])
        os.write(end, b"a")
        told.get(timeout=10.0)
    finally:
        os.close(end)  # `again` is closed by the fixture


def test_a_flood_is_told_at_most_once_in_a_pause(watch, told, pipe):
    read, write = pipe
    os.write(write, b"never read")
    for _ in range(20):
        watch.watch([read])
        told.get(timeout=10.0)
    first = time.monotonic()
    times = []
    for _ in range(20):
        watch.watch([read])
        times.append(told.get(timeout=10.0))
    assert times[-1] - first >= 18 * SHORTEST_PAUSE


def test_descriptors_above_1023_are_watched_too(watch, told, a_thousand_files):
    read, write = os.pipe()
    try:
        watch.watch([read])
        os.write(write, b"a")
        told.get(timeout=10.0)
    finally:
        os.close(read)
        os.close(write)
