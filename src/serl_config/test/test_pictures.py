# SPDX-License-Identifier: Apache-2.0
"""Heads of pictures: compared with what OpenCV decodes, and changed into bombs."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from serl_config.pictures import PictureError, PictureHead, check_picture
from serl_config.text import printable

KINDS = {".jpg": "jpeg", ".png": "png", ".bmp": "bmp", ".webp": "webp", ".tiff": "tiff"}
JPEGS = {
    "baseline": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
}


def encoded(suffix: str, width: int, height: int, options: tuple[int, ...] = ()) -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 3), (300, 257)])
def test_the_head_says_what_will_be_decoded(suffix: str, width: int, height: int) -> None:
    assert check_picture(encoded(suffix, width, height)) == PictureHead(KINDS[suffix], width, height)


@pytest.mark.parametrize("kind", JPEGS)
def test_every_kind_of_jpeg(kind: str) -> None:
    assert check_picture(encoded(".jpg", 99, 70, JPEGS[kind])) == PictureHead("jpeg", 99, 70)


def png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b"")
    )


def jpeg_bomb(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg", 16, 16))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


SMALL = encoded(".jpg", 16, 16)
SCAN = SMALL[SMALL.index(b"\xff\xda") : -2]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (png_bomb(60_000, 60_000), "found 60000x60000"),
        (png_bomb(2**31 - 1, 2**31 - 1), "found 2147483647x"),
        (jpeg_bomb(60_000, 60_000), "found 60000x60000"),
        (jpeg_bomb(0, 10), "found 0x10"),
        (SMALL[:-2] + SCAN * 200 + b"\xff\xd9", "at most 100 scans"),
        (b"", "0 bytes that are no such picture"),
        (b"\xff\xd8", "cut off"),
        (b"\xff\xd8" + b"\xff" * 100, "cut off"),
        (b"\xff\xd8\xff\xda", "no such picture"),
        (b"\xff\xd8\xff\xe0\0\0" * 9, r"no such picture|cut off"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
        (b"BM" + b"\0" * 12, "cut off"),
        (b"RIFF\0\0\0\0WEBPVP8X", "cut off"),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\xff" * 6, "found 16777216x16777216"),
        (b"II*\0\xff\xff\xff\xff", "cut off"),
        (b"GIF89a" + b"\0" * 99, "no such picture"),
        (b"\x1b[2J\n", "no such picture"),
    ],
)
def test_bombs_and_rubbish_are_one_line(data: bytes, text: str) -> None:
    with pytest.raises(PictureError, match=text) as error:
        check_picture(data)
    assert printable(str(error.value)) == str(error.value)


def test_any_change_of_a_head_is_an_answer_or_an_error() -> None:
    rng = np.random.default_rng(0)
    for suffix in KINDS:
        original = encoded(suffix, 20, 10)
        for _ in range(300):
            data = bytearray(original[: rng.integers(1, 200)])
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(0, 256)
            try:
                head = check_picture(bytes(data))
            except PictureError:
                continue
            assert 1 <= head.width * head.height <= 2**25
