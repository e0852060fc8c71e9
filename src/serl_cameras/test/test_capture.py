# SPDX-License-Identifier: Apache-2.0
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from serl_cameras.capture import Capture
from serl_cameras.health import Limits, State
from serl_cameras.make_source import make_source
from serl_cameras.sources.source import SourceError, SourceSettings

LIMITS = Limits(timeout=60.0, frozen_after=60.0, min_rate=0.0)  # a busy machine reads late, too


@pytest.fixture
def capture():
    """`capture(source, ...)` starts one that ends with the test; it has a list `pictures`."""
    started = []

    def start(source, size=None, on_picture=None, limits=LIMITS):
        pictures = []
        made = Capture(
            source, limits, on_picture or (lambda pixels, _: pictures.append(pixels)), size=size, longest_delay=0.25
        )
        made.pictures = pictures
        started.append(made)
        made.start()
        return made

    yield start
    for each in started:
        each.stop()


def wait_until(condition, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def file_source(path):
    return make_source("file", SourceSettings(path=str(path), framerate=100.0))


class Unsteady:
    """A camera whose plug is pulled out by the test."""

    def __init__(self):
        self.plugged = threading.Event()
        self.plugged.set()
        self.opened = self.closed = self.reads = 0

    def open(self):
        if not self.plugged.is_set():
            raise SourceError("no such device")
        self.opened += 1

    def read(self):
        time.sleep(0.005)  # as a camera that has no newer picture yet
        self.reads += 1
        if not self.plugged.is_set():
            raise SourceError("gives no picture any more")
        return self.picture()

    def picture(self):
        return np.random.default_rng().integers(0, 256, (8, 8, 3), np.uint8)

    def close(self):
        self.closed += 1


class Frozen(Unsteady):
    """A camera that gives the same picture for ever."""

    def picture(self):
        return np.zeros((8, 8, 3), np.uint8)


def test_a_camera_is_read_until_the_end(capture):
    source = Unsteady()
    made = capture(source)
    wait_until(lambda: len(made.pictures) > 7)
    assert made.report().state is State.RUNNING
    made.stop()
    assert source.closed == source.opened == 1, "the thread has ended: nobody is left who could read"
    assert source.reads - len(made.pictures) in (0, 1), "what was read while it was stopped is not shown"


def test_a_file_is_a_camera_like_any_other(capture, folder):
    made = capture(file_source(folder(5)))
    wait_until(lambda: len(made.pictures) > 7)
    assert made.report().state is State.RUNNING


def test_a_camera_that_is_pulled_out_is_opened_again(capture):
    source = Unsteady()
    made = capture(source)
    wait_until(lambda: made.pictures)
    source.plugged.clear()
    wait_until(lambda: made.report().state is State.LOST)
    count = len(made.pictures)
    wait_until(lambda: made.report().losses > 1)  # it was tried again
    assert len(made.pictures) == count
    source.plugged.set()
    wait_until(lambda: made.report().state is State.RUNNING)
    assert source.opened == 2
    assert len(made.pictures) > count


def test_a_frozen_camera_shows_nothing_any_more(capture):
    source = Frozen()
    made = capture(source, limits=replace(LIMITS, frozen_after=0.3))
    wait_until(lambda: made.report().state is State.FROZEN)
    count, reads = len(made.pictures), source.reads
    assert count > 0
    wait_until(lambda: source.reads > reads + 20)
    assert len(made.pictures) <= count + 1, "but for one that was on its way"
    assert made.report().state is State.FROZEN


def test_pictures_of_another_size_are_not_shown(capture, folder):
    path = folder(2)
    folder(1, width=32, height=32, first=2)
    made = capture(file_source(path))
    wait_until(lambda: made.report().state is State.LOST)
    assert "expected pictures of 64x48, found 32x32" in made.report().message
    assert {pixels.shape for pixels in made.pictures} == {(48, 64, 3)}


def test_a_size_that_was_asked_for_must_come(capture, folder):
    made = capture(file_source(folder(2)), size=(640, 480))
    wait_until(lambda: made.report().state is State.LOST)
    assert "expected pictures of 640x480, found 64x48" in made.report().message
    assert not made.pictures


def test_a_driver_that_hangs_is_named_and_does_not_keep_the_process(capture):
    hangs = threading.Event()

    class Hanging(Unsteady):
        def read(self):
            hangs.wait(60.0)
            raise SourceError("woke up")

    made = capture(Hanging(), limits=replace(LIMITS, timeout=0.3))
    wait_until(lambda: made.report().state is State.SILENT)
    hangs.set()
    made.stop()


def test_what_a_listener_raises_is_not_lost(capture, folder):
    def fail(pixels, info):
        raise ValueError("cannot be published")

    made = capture(file_source(folder(2)), on_picture=fail)
    with pytest.raises(ValueError, match="cannot be published"):
        wait_until(lambda: made.report() is None)
