# SPDX-License-Identifier: Apache-2.0
from array import array

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sensor_msgs.msg import CompressedImage, Image
from serl_ros.images import ImageError, compressed_message, image_message, rgb_from_message

PICTURES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
STAMP = Time(sec=3, nanosec=7)


def raw(pixels, encoding, padding=0):
    rows = pixels.reshape(pixels.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=padded.shape[1])
    message.data = array("B", padded.tobytes())
    return message


def gradient(height=48, width=64):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)


@given(PICTURES)
def test_a_picture_survives_the_message(rgb):
    message = image_message(rgb, STAMP, "front_color_optical_frame")
    assert (message.encoding, message.step, message.header.stamp) == ("rgb8", 3 * rgb.shape[1], STAMP)
    np.testing.assert_array_equal(rgb_from_message(message), rgb)
    np.testing.assert_array_equal(rgb_from_message(image_message(rgb[::-1, ::-1], STAMP, "")), rgb[::-1, ::-1])


@given(PICTURES, st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8"]), st.integers(0, 5))
def test_every_order_of_channels_gives_the_same_picture(rgb, encoding, padding):
    pixels = rgb if encoding.startswith("rgb") else rgb[..., ::-1]
    if "a" in encoding:
        pixels = np.concatenate([pixels, np.full((*rgb.shape[:2], 1), 5, np.uint8)], axis=-1)
    np.testing.assert_array_equal(rgb_from_message(raw(pixels, encoding, padding)), rgb)


@given(PICTURES, st.integers(0, 5))
def test_a_grey_picture_has_three_equal_channels(rgb, padding):
    grey = rgb[..., :1]
    np.testing.assert_array_equal(rgb_from_message(raw(grey, "mono8", padding)), np.repeat(grey, 3, axis=-1))


@pytest.mark.parametrize(("encoding", "order"), [("yuv422_yuy2", "YUYV"), ("yuv422", "UYVY")])
def test_yuv_of_a_webcam_keeps_its_colours(encoding, order):
    luma, u, v = (int(value) for value in cv2.cvtColor(np.uint8([[[200, 60, 30]]]), cv2.COLOR_RGB2YUV)[0, 0])
    part = {"Y": luma, "U": u, "V": v}
    pixels = np.tile(np.uint8([part[letter] for letter in order]), (4, 3)).reshape(4, 6, 2)
    rgb = rgb_from_message(raw(pixels, encoding))
    assert rgb.shape == (4, 6, 3)
    np.testing.assert_allclose(rgb.reshape(-1, 3), np.tile([200, 60, 30], (24, 1)), atol=40)
    assert (rgb[..., 0] > rgb[..., 1]).all() and (rgb[..., 1] > rgb[..., 2]).all()
    with pytest.raises(ImageError, match="even number"):
        rgb_from_message(raw(pixels[:, :5], encoding))


def test_rgb_is_viewed_without_a_copy():
    message = image_message(gradient(), STAMP, "")
    assert np.shares_memory(rgb_from_message(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize("encoding", ["bgr8", "mono8"])
def test_what_is_converted_is_ours(encoding):
    message = raw(gradient()[..., :1] if encoding == "mono8" else gradient(), encoding)
    assert not np.shares_memory(rgb_from_message(message), np.frombuffer(message.data, np.uint8))


def test_jpeg_keeps_the_colours():
    message = compressed_message(gradient(), STAMP, "frame", jpeg_quality=95)
    assert (message.format, message.header.frame_id) == ("rgb8; jpeg compressed bgr8", "frame")
    np.testing.assert_allclose(rgb_from_message(message).astype(int), gradient(), atol=12)


@pytest.mark.parametrize("text", ["png", "bgr8; png compressed bgr8", "rgb8; png compressed bgr8"])
def test_png_is_exact(text):
    _, data = cv2.imencode(".png", gradient()[..., ::-1])
    np.testing.assert_array_equal(rgb_from_message(CompressedImage(format=text, data=data.tobytes())), gradient())


def test_channels_that_were_not_exchanged_stay_so():
    _, data = cv2.imencode(".png", gradient())
    message = CompressedImage(format="rgb8; png compressed rgb8", data=data.tobytes())
    np.testing.assert_array_equal(rgb_from_message(message), gradient())


def changed(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (raw(gradient(), "16UC1"), "encoding: expected rgb8, .* found '16UC1'"),
        (changed(raw(gradient(), "rgb8"), width=65), "step: expected at least 195 .* found 192"),
        (changed(raw(gradient(), "rgb8"), height=49), "data: expected 9408 bytes .* found 9216"),
        (Image(encoding="rgb8"), "empty one of 0x0"),
        (CompressedImage(format="h264", data=b"abc"), "format: expected jpeg or png .* found 'h264'"),
        (CompressedImage(format="16UC1; png compressed", data=b"abc"), "found '16UC1; png compressed'"),
        (CompressedImage(format="jpeg", data=b"not a picture"), "13 bytes that are no such picture"),
        (CompressedImage(format="png"), "0 bytes that are no such picture"),
        (
            CompressedImage(format="jpeg", data=bytes(compressed_message(gradient(), STAMP, "").data[:-9])),
            "was cut off",
        ),
    ],
)
def test_a_message_without_a_picture_is_one_clear_error(message, text):
    with pytest.raises(ImageError, match=text):
        rgb_from_message(message)


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_only_a_picture_becomes_a_message(array):
    for make in (image_message, compressed_message):
        with pytest.raises(ImageError, match="expected a picture"):
            make(array, STAMP, "")
