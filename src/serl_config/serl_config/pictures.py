# SPDX-License-Identifier: Apache-2.0
"""What a compressed picture will be, told from its head: a few bytes can claim to be gigabytes of pixels."""

import struct
from typing import NamedTuple

PIXEL_LIMIT = 2**25
"""Most pixels of a picture: 33.5 million, an 8K frame."""
SCAN_LIMIT = 100
"""Most scans of a JPEG picture: every scan goes over all pixels, and an ordinary progressive one has ten."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG and DAC
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST0 to RST7, SOI


class PictureError(ValueError):
    """Data that is no picture, or one that is too large. The message is one line."""


class PictureHead(NamedTuple):
    """What the head of a picture says."""

    kind: str
    """jpeg, png, bmp, webp or tiff."""
    width: int
    """[pixels]"""
    height: int
    """[pixels]"""


def check_picture(data: bytes | memoryview) -> PictureHead:
    """The head of a picture that is worth decoding.

    Raises:
        PictureError: no JPEG, PNG, BMP, WebP or TIFF picture, or one of more than `PIXEL_LIMIT` pixels.
    """
    view = memoryview(data).cast("B")
    try:
        head = _head(view)
    except (struct.error, IndexError) as error:
        raise PictureError(f"expected a picture, found {len(view)} bytes of a head that is cut off") from error
    if head is None:
        raise PictureError(
            f"expected a picture, found {len(view)} bytes that are no such picture ({bytes(view[:8])!r})"
        )
    if head.width < 1 or head.height < 1 or head.width * head.height > PIXEL_LIMIT:
        raise PictureError(f"expected a picture of 1 to {PIXEL_LIMIT} pixels, found {head.width}x{head.height}")
    if head.kind == "jpeg" and bytes(view).count(b"\xff\xda") > SCAN_LIMIT:
        raise PictureError(f"expected a JPEG picture of at most {SCAN_LIMIT} scans, found more")
    return head


def _head(view: memoryview) -> PictureHead | None:
    start = bytes(view[:16])
    if start.startswith(b"\xff\xd8"):
        return _jpeg(view)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PictureHead("png", *struct.unpack_from(">II", view, 16))
    if start.startswith(b"BM"):
        if struct.unpack_from("<I", view, 14)[0] == 12:  # the oldest kind of head
            return PictureHead("bmp", *struct.unpack_from("<HH", view, 18))
        width, height = struct.unpack_from("<ii", view, 18)
        return PictureHead("bmp", abs(width), abs(height))
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp(view)
    if start[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(view, "<" if start[:1] == b"I" else ">")
    return None


def _jpeg(view: memoryview) -> PictureHead | None:
    position = 2
    while True:
        if view[position] != 0xFF:
            return None
        marker = view[position + 1]
        if marker == 0xFF:  # fill
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", view, position + 5)
            return PictureHead("jpeg", width, height)
        elif marker in (0xD9, 0xDA):  # the end, or pixels without a frame
            return None
        else:
            position += 2 + struct.unpack_from(">H", view, position + 2)[0]


def _webp(view: memoryview) -> PictureHead | None:
    kind = bytes(view[12:16])
    if kind == b"VP8X":
        low, middle, high, *rest = struct.unpack_from("6B", view, 24)
        return PictureHead("webp", 1 + low + 256 * middle + 65536 * high, 1 + int.from_bytes(bytes(rest), "little"))
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", view, 21)[0]
        return PictureHead("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", view, 26)
        return PictureHead("webp", width & 0x3FFF, height & 0x3FFF)
    return None


def _tiff(view: memoryview, order: str) -> PictureHead | None:
    offset = struct.unpack_from(f"{order}I", view, 4)[0]
    sizes = {}
    for index in range(struct.unpack_from(f"{order}H", view, offset)[0]):
        entry = offset + 2 + 12 * index
        tag, kind = struct.unpack_from(f"{order}HH", view, entry)
        if tag in (256, 257):  # width and height, as u16 or u32
            sizes[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", view, entry + 8)[0]
    return PictureHead("tiff", sizes[256], sizes[257]) if len(sizes) == 2 else None
