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


def raw(pixels, encoding, padding=0, bigendian=False):
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if bigendian else "<"))
    rows = pixels.reshape(pixels.shape[0], -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=padded.shape[1])
    message.is_bigendian = int(bigendian)
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


def rgb_of_yuv(y, u, v):
    """Return RGB, float64 (..., 3), by the definition of ITU-R BT.601 (section 3.5): luma 16..235, chroma 16..240."""
    luma, blue, red = (y - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0
    r = luma + 2 * (1 - 0.299) * red
    b = luma + 2 * (1 - 0.114) * blue
    g = (luma - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(255.0 * np.stack([r, g, b], -1), 0, 255)


def random_yuv(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(16, 236, (height, width)), rng.integers(16, 241, (2, height, width))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuyv", "yuv422_yuy2", "uyvy", "yuv422"])
def test_yuv_of_a_webcam_keeps_its_colours(encoding, padding):
    y, chroma = random_yuv(7, 10)
    chroma = chroma[:, :, ::2]  # one pair for two pixels
    y_first = encoding in ("yuyv", "yuv422_yuy2")
    pixels = np.empty((7, 10, 2), np.uint8)
    pixels[..., 0 if y_first else 1] = y
    pixels[:, 0::2, 1 if y_first else 0], pixels[:, 1::2, 1 if y_first else 0] = chroma
    expected = rgb_of_yuv(y, *chroma.repeat(2, axis=2))
    np.testing.assert_allclose(rgb_from_message(raw(pixels, encoding, padding)), expected, atol=2)
    with pytest.raises(ImageError, match="even number"):
        rgb_from_message(raw(pixels[:, :5], encoding))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24"])
def test_luma_and_chroma_in_planes_of_their_own(encoding, padding):
    height, width = 6, 8
    y, chroma = random_yuv(height, width, seed=1)
    if encoding != "nv24":
        chroma = chroma[:, ::2, ::2]
    pairs = np.stack(chroma[::-1] if encoding == "nv21" else chroma, -1).reshape(-1, width)
    if encoding == "nv24":  # a row of chroma is twice as long as the step
        pairs = np.pad(pairs.reshape(height, 2 * width), ((0, 0), (0, 2 * padding))).reshape(-1, width + padding)
    else:
        pairs = np.pad(pairs, ((0, 0), (0, padding)))
    planes = np.concatenate([np.pad(y, ((0, 0), (0, padding))), pairs]).astype(np.uint8)
    message = Image(height=height, width=width, encoding=encoding, step=width + padding, data=planes.tobytes())
    full = chroma if encoding == "nv24" else chroma.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(rgb_from_message(message), rgb_of_yuv(y, *full), atol=2)
    if not padding:  # a step that counts both planes
        message.step = planes.size // height
        np.testing.assert_allclose(rgb_from_message(message), rgb_of_yuv(y, *full), atol=2)
    with pytest.raises(ImageError, match=r"data: expected \d+ bytes for 8x6 nv"):
        rgb_from_message(changed(message, data=message.data[:-1]))


def mosaic(rgb, pattern):
    """Return what a sensor with a pattern such as "rggb" sees of a picture: one channel for each pixel."""
    rows, columns = np.indices(rgb.shape[:2]) % 2
    channel = np.array(["rgb".index(letter) for letter in pattern])[2 * rows + columns]
    return np.take_along_axis(rgb, channel[..., None], axis=-1)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("depth", "bigendian"), [(8, False), (16, False), (16, True)])
def test_the_colours_of_a_bayer_pattern(pattern, depth, bigendian):
    for colour in ([200, 60, 30], [0, 255, 7], [1, 2, 250]):
        rgb = np.full((9, 12, 3), colour, np.uint8)
        seen = mosaic(rgb, pattern).astype(np.uint16) * 257 if depth == 16 else mosaic(rgb, pattern)
        found = rgb_from_message(raw(seen, f"bayer_{pattern}{depth}", padding=2, bigendian=bigendian))
        np.testing.assert_array_equal(found, rgb)
    halves = np.zeros((8, 16, 3), np.uint8)
    halves[:, :8, 0], halves[:, 8:, 2] = 255, 255
    found = rgb_from_message(raw(mosaic(halves, pattern), f"bayer_{pattern}8"))
    np.testing.assert_array_equal(found[:, :6], halves[:, :6])
    np.testing.assert_array_equal(found[:, 10:], halves[:, 10:])
    with pytest.raises(ImageError, match="Bayer pattern of 3x3 or more"):
        rgb_from_message(raw(mosaic(rgb[:2], pattern), f"bayer_{pattern}8"))


@given(PICTURES, st.integers(0, 3))
def test_channels_without_names_are_in_the_order_of_opencv(rgb, padding):
    bgra = np.concatenate([rgb[..., ::-1], np.full((*rgb.shape[:2], 1), 9, np.uint8)], -1)
    for pixels, encoding in ((bgra[..., :3], "8UC3"), (bgra, "8UC4")):
        np.testing.assert_array_equal(rgb_from_message(raw(pixels, encoding, padding)), rgb)
        wide = pixels.astype(np.uint16) * 257
        np.testing.assert_array_equal(rgb_from_message(raw(wide, "16" + encoding[1:], padding)), rgb)
    grey = np.repeat(rgb[..., :1], 3, -1)
    np.testing.assert_array_equal(rgb_from_message(raw(rgb[..., :1], "8UC1", padding)), grey)


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(4))), st.booleans())
def test_of_sixteen_bits_the_upper_eight_are_kept(wide, bigendian):
    expected = np.round(wide / 257.0)
    for encoding, order in (("rgba16", [0, 1, 2]), ("bgra16", [2, 1, 0]), ("mono16", [0, 0, 0])):
        pixels = wide[..., :1] if encoding == "mono16" else wide
        found = rgb_from_message(raw(pixels, encoding, 2, bigendian))
        np.testing.assert_array_equal(found, expected[..., order])
        if encoding != "mono16":
            found = rgb_from_message(raw(wide[..., :3], encoding.replace("a", ""), 2, bigendian))
            np.testing.assert_array_equal(found, expected[..., order])


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


@pytest.mark.parametrize(
    "text",
    [
        "jpeg",
        "jpg",
        "mono8; jpeg compressed mono8",
        "mono8; jpeg compressed",
        "yuyv; jpeg compressed bgr8",
        "uyvy;jpeg",
    ],
)
def test_the_formats_of_image_transport(text):
    grey = gradient()[..., :1]
    _, data = cv2.imencode(".jpg", grey)
    found = rgb_from_message(CompressedImage(format=text, data=data.tobytes()))
    np.testing.assert_allclose(found.astype(int), np.repeat(grey, 3, -1), atol=6)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_bayer_pattern_may_be_compressed_as_it_is_or_as_colours(depth):
    rgb = np.full((8, 8, 3), [200, 60, 30], np.uint8)
    seen = mosaic(rgb, "gbrg")
    _, data = cv2.imencode(".png", seen if depth == 8 else seen.astype(np.uint16) * 257)
    message = CompressedImage(format=f"bayer_gbrg{depth}; png compressed ", data=data.tobytes())
    np.testing.assert_array_equal(rgb_from_message(message), rgb)
    _, data = cv2.imencode(".png", rgb[..., ::-1])
    message = CompressedImage(format=f"bayer_gbrg{depth}; png compressed bgr8", data=data.tobytes())
    np.testing.assert_array_equal(rgb_from_message(message), rgb)


def test_a_png_of_sixteen_bits():
    _, data = cv2.imencode(".png", gradient()[..., ::-1].astype(np.uint16) * 257)
    message = CompressedImage(format="rgb16; png compressed bgr16", data=data.tobytes())
    np.testing.assert_array_equal(rgb_from_message(message), gradient())


def huge_jpeg():
    data = bytearray(compressed_message(gradient(), STAMP, "").data)
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


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
        (raw(gradient(), "32FC1"), "found '32FC1', which is depth and no picture"),
        (raw(gradient(), "a\n\x1b[2J" + "x" * 10_000), r"found 'a\\\\n\\\\x1b.{70,90}$"),
        (Image(height=2**31, width=2**31, encoding="mono8", step=2**31), "found one of 2147483648x2147483648"),
        (Image(height=2**32 - 1, width=1, encoding="nv24", step=2**32 - 1), "at most 33554432 pixels"),
        (Image(height=2, width=3, encoding="nv12", step=3, data=bytes(9)), "even width and height"),
        (CompressedImage(format="jpeg", data=huge_jpeg()), "found 65535x65535"),
        (CompressedImage(format="jpeg", data=cv2.imencode(".bmp", gradient())[1].tobytes()), "found bmp"),
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


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "rgba8", "bgra8"])
def test_cv_bridge_of_a_native_ros_2_sees_the_same_picture(encoding):
    bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is of a native ROS 2").CvBridge()
    channels = {"mono8": 1, "rgba8": 4, "bgra8": 4}.get(encoding, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)
    message = raw(pixels, encoding, padding=3)
    np.testing.assert_array_equal(rgb_from_message(message), bridge.imgmsg_to_cv2(message, "rgb8"))
    ours = image_message(pixels[..., :3] if channels > 1 else np.repeat(pixels, 3, -1), STAMP, "")
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(ours, "rgb8"), rgb_from_message(ours))
