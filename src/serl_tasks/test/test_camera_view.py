# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_config.schema import ConfigError, build
from serl_tasks.camera_view import CameraView


@given(
    crop=st.one_of(
        st.none(),
        st.tuples(*[st.floats(0, 0.9)] * 2, *[st.floats(0.001, 1.0)] * 2).map(
            lambda c: (c[0], c[1], min(c[2], 1 - c[0]), min(c[3], 1 - c[1]))
        ),
    ),
    size=st.tuples(st.integers(8, 64), st.integers(8, 64)),
    width=st.integers(1, 200),
    height=st.integers(1, 200),
)
def test_every_picture_becomes_one_of_the_policys_size(crop, size, width, height):
    view = CameraView(size=size, crop=crop)
    left, top, w, h = view.box(width, height)
    assert left >= 0 and top >= 0 and w >= 1 and h >= 1
    assert left + w <= width and top + h <= height
    assert view.apply(np.zeros((height, width, 3), np.uint8)).shape == view.shape == (size[1], size[0], 3)


def test_a_picture_that_fits_is_not_copied():
    picture = np.zeros((128, 128, 3), np.uint8)
    assert np.shares_memory(CameraView().apply(picture), picture)


def test_without_a_crop_the_middle_is_seen_undistorted():
    assert CameraView().box(640, 480) == (80, 0, 480, 480)
    assert CameraView(size=(128, 64)).box(640, 480) == (0, 80, 640, 320)


def test_the_crop_is_a_part_of_the_picture_whatever_its_size():
    view = CameraView(crop=(0.25, 0.5, 0.5, 0.25))
    assert view.box(640, 480) == (160, 240, 320, 120)
    assert view.box(64, 48) == (16, 24, 32, 12)


@pytest.mark.parametrize(
    ("size", "crop", "scale", "drawn", "seen"),
    [
        ((160, 120), None, 1.0, (160, 120), (160, 120)),
        ((160, 120), None, 2.0, (320, 240), (320, 240)),
        ((128, 128), (0.25, 0.5, 0.5, 0.5), 1.0, (256, 256), (128, 128)),
        ((64, 64), (0.0, 0.0, 0.5, 0.25), 1.0, (256, 256), (128, 64)),
        ((1024, 512), (0.0, 0.0, 0.1, 0.1), 1.0, (2048, 1024), (205, 102)),
    ],
)
def test_a_picture_is_drawn_so_large_that_nothing_is_enlarged(size, crop, scale, drawn, seen):
    view = CameraView(size=size, crop=crop)
    assert view.picture_size((2048, 2048), scale) == drawn
    assert view.box(*drawn)[2:] == seen


@pytest.mark.parametrize(
    "values",
    [
        {"size": [4, 128]},
        {"size": [128]},
        {"crop": [0.5, 0.0, 0.6, 1.0]},
        {"crop": [-0.1, 0.0, 0.5, 1.0]},
        {"crop": [0.0, 0.0, 0.0, 1.0]},
        {"scale": 2},
    ],
)
def test_what_is_no_view_is_refused(values):
    with pytest.raises(ConfigError):
        build(CameraView, values, "test")


@pytest.mark.parametrize("picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))])
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="expected uint8"):
        CameraView().apply(picture)
