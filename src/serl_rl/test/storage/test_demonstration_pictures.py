# SPDX-License-Identifier: Apache-2.0
"""Demonstration files with pictures: what is read of them for other encoders, stacks and storages."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from serl_rl.spec import ArraySpec, DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.demonstrations import (
    DemonstrationError,
    DemonstrationFile,
    Encoding,
    PictureStorage,
    read_demonstrations,
)
from serl_rl.storage.picture_chunk import decode_picture_chunk, encode_picture_chunk
from serl_rl.storage.pictures import decode_jpeg, encode_jpeg
from serl_rl.storage.segment import scan

FRONT, WRIST = (24, 32, 3), (16, 16, 1)
PICTURES = TransitionSpec(
    {"state": ((3,), "float32"), "front": (FRONT, "uint8"), "wrist": (WRIST, "uint8")},  # type: ignore[dict-item]
    2,
    meaning={"task": "stack"},
)
FEATURES = replace(
    PICTURES,
    observation={
        **PICTURES.observation,
        "front": ArraySpec((2, 3, 4, 3), "float16"),
        "wrist": ArraySpec((2, 2, 2, 1), "float16"),
    },
    encoder="a" * 16,
)


def mean_of_blocks(pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
    """An encoder: the mean of blocks of 8 x 8 pixels, and as a second view that of the picture upside down."""

    def means(rows: NDArray[np.uint8]) -> NDArray[np.float16]:
        n, height, width, channels = rows.shape
        blocks = rows.reshape(n, height // 8, 8, width // 8, 8, channels)
        return blocks.mean(axis=(2, 4)).astype(np.float16)

    return {name: np.stack([means(rows), means(rows[:, ::-1])], axis=1) for name, rows in pictures.items()}


ENCODING = Encoding(PICTURES, mean_of_blocks)


def pictures(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Smooth pictures with an edge, as cameras see them."""
    height, width, channels = shape
    coarse = rng.integers(0, 256, (count, 4, 4, channels), np.uint8)
    rows = np.stack([cv2.resize(picture, (width, height)).reshape(shape) for picture in coarse])
    rows[:, height // 2 :, : width // 3] = rng.integers(0, 256, (count, 1, 1, channels))
    return rows


def episode(number: int, length: int) -> Chunk:
    rng = np.random.default_rng(number)
    return Chunk(
        observation={
            "state": rng.standard_normal((length + 1, 3), dtype=np.float32),
            "front": pictures(rng, length + 1, FRONT),
            "wrist": pictures(rng, length + 1, WRIST),
        },
        action=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        reward=np.zeros(length, np.float32),
        mask=np.array([1.0] * (length - 1) + [0.0], np.float32),
        truncated=np.zeros(length, np.bool_),
        intervention=np.ones(length, np.bool_),
        policy_version=np.zeros(length, np.uint64),
        actor_id="person",
        episode=number,
        first_step=0,
        demonstration=True,
        last=True,
        success=True,
        meaning=PICTURES.meaning_hash,
    )


def pieces(chunk: Chunk, lengths: list[int]) -> list[Chunk]:
    """An episode cut into chunks of these lengths, the last one takes the rest."""
    found = []
    while lengths and len(chunk) > lengths[0]:
        keep = np.arange(len(chunk)) < lengths[0]
        found += chunk.select(keep)
        chunk, lengths = chunk.skip(lengths[0]), lengths[1:]
    return [*found, chunk]


def write(path: Path, chunks: list[Chunk], storage: PictureStorage = "jpeg", spec: TransitionSpec = PICTURES) -> None:
    with DemonstrationFile(path, spec, storage) as file:
        for chunk in chunks:
            file.append(chunk)


def stacked(chunk: Chunk, frames: Mapping[str, NDArray[Any]], spec: TransitionSpec) -> dict[str, NDArray[Any]]:
    """Rows of a chunk's frames in those of its whole episode."""
    history = min(spec.frame_stack - 1, chunk.first_step)
    rows = slice(chunk.first_step - history, chunk.first_step + len(chunk) + 1)
    return {name: values[rows] for name, values in frames.items()}


@pytest.mark.parametrize("storage", ["jpeg", "raw"])
def test_pictures_come_back_as_their_storage_says(tmp_path: Path, storage: PictureStorage) -> None:
    first, second = episode(1, 5), episode(2, 7)
    write(tmp_path / "a.serl", [*pieces(first, [3]), second], storage)
    chunks = list(read_demonstrations(tmp_path / "a.serl", PICTURES))
    assert [(chunk.episode, len(chunk), chunk.last) for chunk in chunks] == [(1, 3, False), (1, 2, True), (2, 7, True)]
    np.testing.assert_array_equal(chunks[2].action, second.action)
    np.testing.assert_array_equal(chunks[2].observation["state"], second.observation["state"])
    for name in ("front", "wrist"):
        found, exact = chunks[2].observation[name].astype(int), second.observation[name].astype(int)
        if storage == "raw":
            np.testing.assert_array_equal(found, exact)
        assert np.abs(found - exact).mean() <= 1.5
        assert np.abs(found - exact).max() <= 24
        np.testing.assert_array_equal(chunks[0].observation[name][-1], chunks[1].observation[name][0])


def test_a_colour_stays_the_colour_that_it_was() -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, :8], picture[:, 8:] = (220, 30, 10), (20, 40, 200)  # red and blue: RGB and BGR would be told apart
    found = decode_jpeg(encode_jpeg(picture), picture.shape, "picture")
    assert np.abs(found.astype(int) - picture).max() <= 6


def test_jpeg_is_what_opencv_makes_of_quality_95_without_subsampling() -> None:
    picture = pictures(np.random.default_rng(0), 1, (48, 64, 3))[0]
    bgr = picture[..., ::-1]
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    expected = cv2.imdecode(cv2.imencode(".jpg", bgr, options)[1], cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_jpeg(encode_jpeg(picture), picture.shape, "picture"), expected)


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 5), max_size=4),
    total=st.integers(1, 12),
    stack=st.integers(1, 4),
    written_stack=st.integers(1, 3),
    features=st.booleans(),
)
def test_an_episode_is_read_for_any_stack_and_encoder(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    total: int,
    stack: int,
    written_stack: int,
    features: bool,
) -> None:
    """Against the frames of the whole episode, cut where its chunks are; however it was stacked when it was written."""
    path = tmp_path_factory.mktemp("demonstrations") / "a.serl"
    whole, other = episode(1, total), episode(2, 3)
    spec = replace(PICTURES, frame_stack=written_stack)
    write(
        path,
        [*pieces(replace(whole, frame_stack=written_stack), lengths), replace(other, frame_stack=written_stack)],
        "raw",
        spec,
    )
    wanted = replace(FEATURES if features else PICTURES, frame_stack=stack)
    *chunks, last = read_demonstrations(path, wanted, ENCODING if features else None)

    frames: Mapping[str, NDArray[Any]] = {name: whole.observation[name] for name in ("front", "wrist")}
    if features:
        frames = mean_of_blocks(frames)
    assert sum(map(len, chunks)) == total
    for chunk in chunks:
        assert (chunk.encoder, chunk.frame_stack) == (wanted.encoder, stack)
        for name, rows in stacked(chunk, frames, wanted).items():
            np.testing.assert_array_equal(chunk.observation[name], rows)
    assert last.episode == 2 and len(last.observation["front"]) == 4, "nothing of the episode before"


def test_features_are_those_of_the_pictures_that_the_file_holds_and_shared_frames_are_encoded_once(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    def encode(rows: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
        seen.append(len(rows["front"]))
        return mean_of_blocks(rows)

    path = tmp_path / "a.serl"
    write(path, pieces(episode(1, 9), [4, 2]))
    held = list(read_demonstrations(path, PICTURES))
    chunks = list(read_demonstrations(path, FEATURES, Encoding(PICTURES, encode)))
    for chunk, raw in zip(chunks, held, strict=True):
        for name, rows in mean_of_blocks({name: raw.observation[name] for name in ("front", "wrist")}).items():
            np.testing.assert_array_equal(chunk.observation[name], rows)
    assert seen == [5, 2, 3]


def test_a_file_of_features_is_read_by_the_encoder_that_made_them_and_refused_for_others(tmp_path: Path) -> None:
    path = tmp_path / "old.serl"
    chunk = episode(1, 4)
    frames = mean_of_blocks({name: chunk.observation[name] for name in ("front", "wrist")})
    write(path, [replace(chunk, observation={**chunk.observation, **frames}, encoder=FEATURES.encoder)], spec=FEATURES)
    (found,) = read_demonstrations(path, FEATURES, ENCODING)
    np.testing.assert_array_equal(found.observation["front"], frames["front"])
    other = replace(FEATURES, encoder="b" * 16)
    for spec, encoding in ((other, ENCODING), (PICTURES, None)):
        with pytest.raises(DemonstrationError, match=r"old\.serl: expected .*record it again, .* for any encoder, or"):
            list(read_demonstrations(path, spec, encoding))


def test_pictures_of_another_task_or_crop_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.serl"
    write(path, [episode(1, 4)])
    other = replace(PICTURES, meaning={"task": "throw"})
    features = replace(FEATURES, meaning=other.meaning)
    for spec, encoding in ((other, None), (features, Encoding(other, mean_of_blocks))):
        with pytest.raises(DemonstrationError, match="task: expected throw, found stack"):
            list(read_demonstrations(path, spec, encoding))


def test_a_file_without_the_chunk_before_cannot_be_stacked(tmp_path: Path) -> None:
    path = tmp_path / "a.serl"
    write(path, pieces(episode(1, 9), [4])[1:])
    assert len(list(read_demonstrations(path, PICTURES))) == 1
    with pytest.raises(DemonstrationError, match=r"a\.serl: .* first_step: expected 0, or the step behind the chunk"):
        list(read_demonstrations(path, replace(PICTURES, frame_stack=2)))


def packed(chunk: Chunk, jpeg: Mapping[str, list[bytes]]) -> bytes:
    """A record put together by hand: size of the chunk, the chunk with sizes for pictures, the pictures."""
    sizes = {
        name: np.array([list(struct.pack("<I", len(data))) for data in each], np.uint8) for name, each in jpeg.items()
    }
    body = encode_chunk(replace(chunk, observation={**chunk.observation, **sizes}))
    return struct.pack("<I", len(body)) + body + b"".join(data for name in sorted(jpeg) for data in jpeg[name])


def jpeg_of(chunk: Chunk) -> dict[str, list[bytes]]:
    return {name: [encode_jpeg(picture) for picture in chunk.observation[name]] for name in ("front", "wrist")}


def black(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1])


def test_a_record_is_what_its_description_says() -> None:
    assert encode_picture_chunk(episode(1, 3), PICTURES) == packed(episode(1, 3), jpeg_of(episode(1, 3)))


@settings(deadline=None)
@given(at=st.floats(0.0, 1.0, exclude_max=True), value=st.integers(0, 255), cut=st.floats(0.0, 1.0) | st.none())
def test_whatever_bytes_say_they_are_a_chunk_or_an_error_of_ours(at: float, value: int, cut: float | None) -> None:
    data = bytearray(encode_picture_chunk(episode(1, 3), PICTURES))
    data[int(at * len(data))] = value
    try:
        chunk = decode_picture_chunk(bytes(data if cut is None else data[: int(cut * len(data))]), PICTURES)
    except DataError:
        return
    chunk.check(PICTURES)


@pytest.mark.parametrize(
    ("jpeg", "said"),
    [
        (black(32, 2400), r"observation\.front\[1\]: expected a picture of \(24, 32, 3\), found one of 2400x32"),
        (black(32, 24)[:200], r"observation\.front\[1\]: expected a picture"),
        (b"", r"observation\.front\[1\]: expected a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 60_000, 60_000), "expected a picture of 1 to"),
        (cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes(), "expected a JPEG picture.*, found PNG"),
    ],
)
def test_a_picture_is_refused_by_its_head(jpeg: bytes, said: str) -> None:
    pictures = jpeg_of(episode(1, 3))
    pictures["front"][1] = jpeg
    with pytest.raises(DataError, match=said):
        decode_picture_chunk(packed(episode(1, 3), pictures), PICTURES)


def test_pictures_that_would_fill_the_memory_are_not_unpacked() -> None:
    """Large pictures of one colour are small as JPEG; these would unpack into more than a raw record may have."""
    front = ArraySpec((1024, 2048, 3), "uint8")
    count = 2**30 // front.elements + 1
    chunk = episode(1, count)
    data = packed(replace(chunk, observation={}, meaning=""), {"front": [black(2048, 1024)] * (count + 1)})
    with pytest.raises(DataError, match="expected pictures of at most 1073741824 bytes"):
        decode_picture_chunk(data, TransitionSpec({"front": front}, 2))


def test_a_recording_of_pictures_that_is_damaged_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.serl"
    write(path, [episode(1, 4)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # among the pictures
    path.write_bytes(data)
    with pytest.raises(DemonstrationError, match=r"a\.serl: the record is damaged at byte"):
        list(read_demonstrations(path, FEATURES, ENCODING))


def test_pictures_that_jpeg_cannot_hold_stay_raw(tmp_path: Path) -> None:
    depth = TransitionSpec({"depth": ArraySpec((8, 8, 2), "uint8")}, 2)
    rows = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 2), np.uint8)
    write(tmp_path / "a.serl", [replace(episode(1, 3), observation={"depth": rows}, meaning="")], spec=depth)
    (chunk,) = read_demonstrations(tmp_path / "a.serl", depth)
    np.testing.assert_array_equal(chunk.observation["depth"], rows)


def test_raw_pictures_are_records_as_they_have_always_been(tmp_path: Path) -> None:
    """As of a task whose encoder is trained, in files from before there was JPEG."""
    write(tmp_path / "a.serl", [episode(1, 4)], "raw")
    payload, _ = [payload for _, payload in scan(tmp_path / "a.serl", "demonstrations")]
    assert payload == encode_chunk(episode(1, 4), PICTURES)
