# SPDX-License-Identifier: Apache-2.0
"""Pictures in messages: RGB, uint8 (H, W, 3), without per-pixel Python and with no copy that can be avoided."""

from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from serl_config.pictures import PIXEL_LIMIT, PictureError, check_picture
from serl_config.text import printable

from serl_ros.arrays import from_array

# Encodings of sensor_msgs whose pixels lie one behind the other: type of a value, values of a pixel, and what OpenCV
# does to make RGB of them. Without names for their channels (8UC3 ...) they are in the order of OpenCV: blue first.
# The patterns of OpenCV's Bayer constants begin one pixel further right and down than those of ROS.
_ENCODINGS: dict[str, tuple[type[np.unsignedinteger[Any]], int, int | None]] = {
    "rgb8": (np.uint8, 3, None),
    "bgr8": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC4": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "rgb16": (np.uint16, 3, None),
    "bgr16": (np.uint16, 3, cv2.COLOR_BGR2RGB),
    "rgba16": (np.uint16, 4, cv2.COLOR_RGBA2RGB),
    "bgra16": (np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "mono16": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "16UC3": (np.uint16, 3, cv2.COLOR_BGR2RGB),
    "16UC4": (np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "yuyv": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuv422_yuy2": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "uyvy": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (np.uint16, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (np.uint16, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (np.uint16, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (np.uint16, 1, cv2.COLOR_BayerGB2RGB),
}
# Two planes: luma, then pairs of chroma, one for four pixels or (None) one for each.
_PLANES = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "nv24": None}
_KNOWN = (*_ENCODINGS, *_PLANES)
_DEPTH = ("16UC1", "32FC1")
# ITU-R BT.601 with luma from 16 to 235, as cameras send it: R, G, B of Y, Cb, Cr and 1.
_BT601 = np.array(
    [
        [1.164384, 0.0, 1.596027, -222.9216],
        [1.164384, -0.391762, -0.812968, 135.5753],
        [1.164384, 2.017232, 0.0, -276.8359],
    ]
)
_END_OF_JPEG = b"\xff\xd9"
_BAYER = frozenset(code for name, (_, _, code) in _ENCODINGS.items() if name.startswith("bayer_"))
_LEAST_BAYER = 3  # [pixels] of a side


class ImageError(ValueError):
    """A message holds no picture that we can read, or an array is none."""


def rgb_from_message(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """RGB picture of a message, uint8 (H, W, 3).

    An `rgb8` image is viewed without a copy: it lives as long as the message, and what is kept must be copied. All
    others are converted into an array of their own. Of 16 bits the upper 8 are kept, rounded; YUV is that of ITU-R
    BT.601 with luma from 16 to 235; the colours of a Bayer pattern are interpolated.

    Raises:
        ImageError: unknown encoding, sizes that contradict each other, damaged JPEG or PNG data, or more pixels than
            `serl_config.pictures.PIXEL_LIMIT`.
    """
    if isinstance(message, CompressedImage):
        return _decompress(message)
    height, width, encoding = message.height, message.width, message.encoding
    if encoding not in _KNOWN:
        raise ImageError(f"encoding: expected {', '.join(_KNOWN)}, found {_named(encoding)}")
    if height == 0 or width == 0:
        raise ImageError(f"expected a picture, found an empty one of {width}x{height}")
    if height * width > PIXEL_LIMIT:
        raise ImageError(f"expected a picture of at most {PIXEL_LIMIT} pixels, found one of {width}x{height}")
    if encoding in _PLANES:
        return _from_planes(message)
    kind, channels, conversion = _ENCODINGS[encoding]
    size = np.dtype(kind).itemsize
    step = message.step
    if step < width * channels * size:
        raise ImageError(
            f"step: expected at least {width * channels * size} for {width} pixels {encoding}, found {step}"
        )
    if len(message.data) != step * height:
        raise ImageError(
            f"data: expected {step * height} bytes for {height} rows of {step}, found {len(message.data)} bytes"
        )
    if channels == 2 and width % 2:
        raise ImageError(f"width: expected an even number for {encoding}, found {width}")
    order = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    pixels = np.ndarray((height, width, channels), order, message.data, strides=(step, channels * size, size))
    return _converted(pixels if size == 1 else _upper_bits(pixels), conversion)


def _named(encoding: str) -> str:
    """An encoding that is none of ours, as it is shown."""
    shown = repr(printable(encoding, 80))
    return f"{shown}, which is depth and no picture" if encoding in _DEPTH else shown


def _converted(pixels: Any, conversion: int | None) -> NDArray[np.uint8]:
    """RGB of pixels uint8 (H, W, C)."""
    if conversion is None:
        return pixels
    if conversion in _BAYER and min(pixels.shape[:2]) < _LEAST_BAYER:
        raise ImageError(f"expected a Bayer pattern of {_LEAST_BAYER}x{_LEAST_BAYER} or more, found {pixels.shape[:2]}")
    return _as_rgb(cv2.cvtColor(pixels, conversion))


def _upper_bits(pixels: NDArray[Any]) -> Any:
    """Values from 0 to 65535 as values from 0 to 255."""
    native = np.ascontiguousarray(pixels, np.uint16)
    return cv2.convertScaleAbs(native.reshape(len(native), -1), alpha=1 / 257).reshape(native.shape)


def _from_planes(message: Image) -> NDArray[np.uint8]:
    """RGB of a plane of luma and one of chroma behind it, whose rows have the same step where both are as wide."""
    height, width, encoding = message.height, message.width, message.encoding
    conversion = _PLANES[encoding]
    if conversion is not None and (height % 2 or width % 2):
        raise ImageError(f"expected an even width and height for {encoding}, found {width}x{height}")
    data = from_array(message.data)
    rows = 3 * height if conversion is None else height + height // 2
    step = message.step if len(data) == message.step * rows else width  # some give a step that counts both planes
    if step < width or len(data) != step * rows:
        raise ImageError(
            f"data: expected {max(message.step, width) * rows} bytes for {width}x{height} {encoding}, found {len(data)}"
        )
    planes = data.reshape(rows, step)
    if conversion is not None:
        return _as_rgb(cv2.cvtColor(np.ascontiguousarray(planes[:, :width]), conversion))
    chroma = planes[height:].reshape(height, 2 * step)[:, : 2 * width].reshape(height, width, 2)
    return _as_rgb(cv2.transform(np.dstack([planes[:height, :width], chroma]), _BT601))


def image_message(rgb: NDArray[np.uint8], stamp: Time, frame_id: str) -> Image:
    """`rgb8` message of an RGB picture, uint8 (H, W, 3).

    Raises:
        ImageError: `rgb` is no such picture.
    """
    height, width = _size(rgb)
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * 3)
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.data.frombytes(np.ascontiguousarray(rgb).data)  # into the message's own array: one copy, no checks
    return message


def compressed_message(
    rgb: NDArray[np.uint8], stamp: Time, frame_id: str, *, jpeg_quality: int = 95
) -> CompressedImage:
    """JPEG message of an RGB picture, uint8 (H, W, 3), as image_transport publishes it below `<topic>/compressed`.

    Raises:
        ImageError: `rgb` is no such picture.
    """
    # The format names what was compressed, and the order of its channels as OpenCV's encoder took them.
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.data.frombytes(encode_jpeg(rgb, jpeg_quality).data)
    return message


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = 95) -> NDArray[np.uint8]:
    """JPEG file of an RGB picture, uint8 (H, W, 3), as uint8 (n,).

    Raises:
        ImageError: `rgb` is no such picture.
    """
    _size(rgb)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise ImageError(f"OpenCV cannot compress a picture of {rgb.shape[1]}x{rgb.shape[0]}")
    return data.ravel()


def _decompress(message: CompressedImage) -> NDArray[np.uint8]:
    source, _, compression = message.format.partition(";")
    source = source.strip()
    if (compression and source not in _KNOWN) or not any(
        word in message.format.lower() for word in ("jpeg", "jpg", "png")
    ):
        raise ImageError(f"format: expected jpeg or png of {', '.join(_KNOWN)}, found {_named(message.format)}")
    data = from_array(message.data)
    try:
        kind = check_picture(message.data).kind
    except PictureError as error:
        raise ImageError(f"data: {_named(message.format)} cannot be read: {error}") from error
    if kind not in ("jpeg", "png"):
        raise ImageError(f"data: expected jpeg or png, found {kind}")
    if kind == "jpeg" and _END_OF_JPEG not in data[-4096:].tobytes():  # cameras fill up with zeros
        raise ImageError(f"data: the JPEG picture has no end after {len(data)} bytes; it was cut off")
    # Unlike others, a Bayer pattern may have been compressed as it is: one channel.
    flags = cv2.IMREAD_UNCHANGED if source.startswith("bayer_") else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"data: {_named(message.format)} cannot be read: {error.err}") from error
    if pixels is None:
        raise ImageError(f"data: expected {_named(message.format)}, found {len(data)} bytes that are no such picture")
    if source.startswith("bayer_") and pixels.ndim == 2:
        pixels = pixels if pixels.dtype == np.uint8 else _upper_bits(pixels)
        return _converted(pixels, _ENCODINGS[source][2])
    # Some compress without exchanging red and blue first, and say so.
    return _as_rgb(pixels if "compressed rgb" in compression else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _size(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ImageError(f"expected a picture, uint8 (H, W, 3), found {rgb.dtype} {rgb.shape}")
    return rgb.shape[0], rgb.shape[1]


def _as_rgb(pixels: Any) -> NDArray[np.uint8]:
    """OpenCV's stubs know no dtypes."""
    return pixels
