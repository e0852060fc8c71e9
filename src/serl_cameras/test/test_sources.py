# SPDX-License-Identifier: Apache-2.0
import builtins

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_cameras.make_source import make_source
from serl_cameras.sources import file as file_source
from serl_cameras.sources.source import SourceError, SourceSettings, SourceSettingsError


def open_file(path, framerate=1000.0):
    source = make_source("file", SourceSettings(path=str(path), framerate=framerate))
    source.open()
    return source


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_file_is_played_in_order_again_and_again(kind, folder, video, number_of):
    source = open_file(folder(3) if kind == "folder" else video(3))
    pictures = [source.read() for _ in range(7)]
    assert [number_of(pixels) for pixels in pictures] == [0, 1, 2, 0, 1, 2, 0]
    assert all(pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 for pixels in pictures)
    red, green, blue = pictures[1][2, 2].astype(int)
    assert red > 150 and green < 80 and blue < 80
    source.close()
    with pytest.raises(SourceError, match="is not open"):
        source.read()


def test_pictures_are_arrays_of_their_own(folder):
    source = open_file(folder(1))
    first, second = source.read(), source.read()
    assert not np.shares_memory(first, second)


class Clock:
    """A clock in the place of the module `time`, on which nothing takes time but sleep and what a test adds."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0.0
        self.now += seconds


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A folder with one picture."""
    path = tmp_path_factory.mktemp("still")
    cv2.imwrite(str(path / "0.png"), np.zeros((8, 8, 3), np.uint8))
    return path


@given(
    framerate=st.floats(1.0, 240.0),
    pauses=st.lists(st.one_of(st.just(0.0), st.floats(0.0, 0.5)), min_size=2, max_size=20),
)
def test_a_file_is_played_at_the_rate_that_was_asked_for_and_never_faster(still, framerate, pauses):
    """A reader that pauses gets the next picture at once, and the one after that a whole period later."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(file_source, "time", clock)
        source = open_file(still, framerate)
        due = clock.now
        for pause in pauses:
            asked = clock.now
            source.read()
            assert clock.now == pytest.approx(max(asked, due), abs=1e-9)
            due = max(asked, due) + 1.0 / framerate
            clock.now += pause


@pytest.mark.parametrize("make", ["nothing", "missing", "empty folder", "text", "cut-off video", "damaged picture"])
def test_a_file_without_pictures_is_refused_at_once(make, tmp_path, folder, video):
    path = tmp_path / "thing"
    if make == "nothing":
        path = ""
    elif make == "empty folder":
        path.mkdir()
    elif make == "text":
        path.write_text("no video")
    elif make == "cut-off video":
        path = video(3)
        path.write_bytes(path.read_bytes()[:300])
    elif make == "damaged picture":
        path = folder(1)
        (path / "0.png").write_bytes(b"no picture")
    with pytest.raises(SourceSettingsError, match="path: ") as caught:
        make_source("file", SourceSettings(path=str(path)))
    assert str(path) in str(caught.value)


def test_a_picture_that_is_damaged_later_is_named(folder):
    path = folder(3)
    source = open_file(path)
    source.read()
    (path / "1.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"1\.png: is damaged"):
        source.read()


def test_a_webcam_that_is_not_there_may_come_later():
    source = make_source("v4l2", SourceSettings(video_device="/dev/video99"))
    with pytest.raises(SourceError, match="/dev/video99: no such device"):
        source.open()
    with pytest.raises(SourceError, match="is not open"):
        source.read()
    source.close()


def test_a_webcam_that_is_none_is_named(tmp_path):
    path = tmp_path / "video0"
    path.write_text("no camera")
    source = make_source("v4l2", SourceSettings(video_device=str(path)))
    with pytest.raises(SourceError, match="is no camera, or another program uses it"):
        source.open()
    source.close()


def test_a_missing_library_is_named_with_what_to_do(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name == "pyrealsense2":
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SourceSettingsError, match="pip install pyrealsense2"):
        make_source("realsense", SourceSettings())


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        ("v4l2", SourceSettings(video_device=""), "video_device: expected a device"),
        ("v4l2", SourceSettings(video_device="/dev/video0", pixel_format="MJPEG"), "four characters .* 'MJPEG'"),
        ("file", SourceSettings(width=640), "expected both or none, found 640 and 0"),
        ("gopro", SourceSettings(), "expected one of v4l2, realsense, file, found 'gopro'"),
    ],
)
def test_settings_that_cannot_work_are_refused(kind, settings, text):
    with pytest.raises(SourceSettingsError, match=text):
        make_source(kind, settings)
