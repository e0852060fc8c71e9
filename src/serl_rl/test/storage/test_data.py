# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.storage.chunk import MAX_TRANSITIONS, ArraySpec, DataError, TransitionSpec, decode_chunk, encode_chunk

entries = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.builds(
        ArraySpec,
        st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
        st.sampled_from(["float32", "float16", "uint8"]),
    ),
    min_size=1,
    max_size=3,
)


def build_spec(observation: dict[str, ArraySpec], action_dim: int, frame_stack: int) -> TransitionSpec:
    features = any(entry.kind == "features" for entry in observation.values())
    return TransitionSpec(observation, action_dim, "0123456789abcdef" if features else "", frame_stack)


specs = st.builds(build_spec, entries, st.integers(1, 4), st.integers(1, 3))


@given(specs, st.integers(1, 20), st.booleans(), st.booleans(), st.integers(0, 2**63 - 1), st.text(min_size=1))
def test_decoding_returns_what_was_encoded(make_chunk, same_chunk, spec, n, last, demonstration, number, actor):
    chunk = make_chunk(
        spec, n, last=last, demonstration=demonstration, episode=number, first_step=number, actor_id=actor[:50]
    )
    decoded = decode_chunk(encode_chunk(chunk), spec)
    assert same_chunk(chunk, decoded)
    assert all(not rows.flags.writeable for rows in decoded.observation.values())


@given(st.data(), st.booleans())
@settings(max_examples=300)
def test_changed_bytes_give_a_valid_chunk_or_a_data_error(make_chunk, image_spec, data, cut):
    encoded = bytearray(encode_chunk(make_chunk(image_spec, 3, last=True)))
    for _ in range(data.draw(st.integers(1, 8))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    if cut:
        encoded = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        decode_chunk(bytes(encoded), image_spec).check(image_spec)
    except DataError:
        return
    assert not cut


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(state_spec, data):
    with pytest.raises(DataError):
        decode_chunk(data, state_spec)
    with pytest.raises(DataError):
        decode_chunk(b"SERLCHK1" + struct.pack("<I", len(data)) + data, state_spec)


def with_header(encoded: bytes, changes: dict[str, object]) -> bytes:
    (size,) = struct.unpack_from("<I", encoded, 8)
    header = msgpack.packb(msgpack.unpackb(encoded[12 : 12 + size]) | changes)
    body = encoded[12 + size + -(12 + size) % 8 :]
    return encoded[:8] + struct.pack("<I", len(header)) + header + bytes(-(12 + len(header)) % 8) + body


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"count": 2**40}, "count"),
        ({"count": MAX_TRANSITIONS}, "data"),
        ({"count": -1}, "count"),
        ({"count": 0}, "count"),
        ({"count": True}, "count"),
        ({"count": 3.0}, "count"),
        ({"action_dim": 2**31}, "action_dim"),
        ({"observation": {"state": ["float32", [2**30, 2**30]]}}, "observation.state"),
        ({"observation": {"state": ["float32", [-5]]}}, "observation.state"),
        ({"observation": {"state": ["object", [5]]}}, "observation.state"),
        ({"observation": {"state": ["float64", [5]]}}, "observation.state"),
        ({"observation": {"state": None}}, "observation.state"),
        ({"observation": {"image": ["float32", [5]]}}, "observation"),
        ({"observation": []}, "observation"),
        ({"episode": -1}, "episode"),
        ({"episode": 2**63}, "episode"),
        ({"first_step": -3}, "first_step"),
        ({"actor_id": ""}, "actor_id"),
        ({"actor_id": "x" * 1000}, "actor_id"),
        ({"actor_id": b"bytes"}, "actor_id"),
        ({"last": 1}, "last"),
        ({"last": True}, "last"),
        ({"success": True}, "success"),
        ({"demonstration": None}, "demonstration"),
    ],
)
def test_a_header_that_lies_is_refused_by_name(make_chunk, state_spec, changes, field):
    encoded = with_header(encode_chunk(make_chunk(state_spec, 3)), changes)
    with pytest.raises(DataError) as error:
        decode_chunk(encoded, state_spec)
    assert error.value.field == field


def test_features_of_another_encoder_are_refused_with_both_hashes(make_chunk, features_spec):
    encoded = encode_chunk(make_chunk(features_spec, 3, encoder="f" * 16))
    with pytest.raises(
        DataError, match=r"'0123456789abcdef'.*'ffffffffffffffff'.*record demonstrations again"
    ) as error:
        decode_chunk(encoded, features_spec)
    assert error.value.field == "encoder"
    with pytest.raises(DataError, match="expected the hash of the encoder"):
        encode_chunk(make_chunk(features_spec, 3, encoder=""))


def test_frames_that_are_stacked_otherwise_are_refused(make_chunk, image_spec, stacked_images_spec):
    with pytest.raises(DataError, match=r"frame_stack: expected 3.*found 1"):
        decode_chunk(encode_chunk(make_chunk(image_spec, 3)), stacked_images_spec)


@given(st.integers(0, 5), st.lists(st.booleans(), min_size=1, max_size=20))
def test_pieces_keep_the_frames_that_their_stacks_need(make_chunk, stacked_images_spec, first_step, keep):
    chunk = make_chunk(stacked_images_spec, len(keep), first_step=first_step)
    numbers = np.arange(first_step - chunk.history, first_step + len(keep) + 1)  # steps of the frames
    chunk.observation["wrist"][...] = numbers.reshape(-1, 1, 1, 1)
    for piece in chunk.select(np.array(keep)):
        piece.check(stacked_images_spec)
        frames = piece.observation["wrist"][:, 0, 0, 0]
        first, last = piece.first_step, piece.first_step + len(piece)
        assert frames.tolist() == list(range(max(first - 2, 0), last + 1))


def test_what_was_recorded_before_there_were_features_can_be_read(make_chunk, same_chunk, state_spec):
    chunk = make_chunk(state_spec, 3)
    encoded = encode_chunk(chunk)
    (size,) = struct.unpack_from("<I", encoded, 8)
    header = msgpack.unpackb(encoded[12 : 12 + size])
    old = {name: value for name, value in header.items() if name not in ("encoder", "frame_stack")}
    body = encoded[12 + size + -(12 + size) % 8 :]
    packed = msgpack.packb(old)
    prefix = encoded[:8] + struct.pack("<I", len(packed)) + packed
    assert same_chunk(decode_chunk(prefix + bytes(-len(prefix) % 8) + body, state_spec), chunk)
    assert TransitionSpec.from_json('{"action_dim":2,"observation":{"state":[[5],"float32"]}}') == state_spec


def test_a_huge_header_is_refused_before_it_is_read(state_spec):
    with pytest.raises(DataError, match="header"):
        decode_chunk(b"SERLCHK1" + struct.pack("<I", 2**32 - 1) + b"\x80", state_spec)


@pytest.mark.parametrize("name", ["reward", "action", "mask"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(make_chunk, state_spec, name, value):
    chunk = make_chunk(state_spec, 4)
    getattr(chunk, name)[2] = value
    with pytest.raises(DataError, match=f"{name}: expected finite"):
        encode_chunk(chunk)


def test_a_nan_in_an_observation_is_refused_with_its_place(make_chunk, state_spec):
    chunk = make_chunk(state_spec, 4)
    chunk.observation["state"][3, 1] = np.nan
    with pytest.raises(DataError, match=r"observation\.state: .* found nan at \(3, 1\)"):
        encode_chunk(chunk)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"action": np.full((4, 2), 1.01, np.float32)}, "action"),
        ({"action": np.zeros((4, 2), np.float64)}, "action"),
        ({"action": np.zeros((3, 2), np.float32)}, "action"),
        ({"action": np.zeros(4, np.float32)}, "action"),
        ({"mask": np.full(4, 0.5, np.float32)}, "mask"),
        ({"mask": np.array([1, 0, 1, 1], np.float32)}, "mask, truncated"),
        ({"truncated": np.array([True, False, False, True]), "last": True}, "mask, truncated"),
        ({"truncated": np.array([False, False, False, True])}, "last"),
        ({"truncated": np.zeros(4, np.int8)}, "truncated"),
        ({"policy_version": np.zeros(4, np.int64)}, "policy_version"),
        ({"observation": {"state": np.zeros((4, 5), np.float32)}}, "observation.state"),
    ],
)
def test_a_chunk_that_contradicts_itself_is_refused_by_name(make_chunk, state_spec, changes, field):
    with pytest.raises(DataError) as error:
        encode_chunk(make_chunk(state_spec, 4, **changes))
    assert error.value.field == field


def test_a_chunk_of_another_task_is_refused(make_chunk, state_spec, image_spec):
    with pytest.raises(DataError, match="observation"):
        decode_chunk(encode_chunk(make_chunk(image_spec, 2)), state_spec)
    with pytest.raises(DataError, match="action_dim"):
        decode_chunk(encode_chunk(make_chunk(replace(state_spec, action_dim=3), 2)), state_spec)


def test_a_truncated_episode_keeps_its_bootstrap(make_chunk, state_spec):
    cut = np.array([False, False, True])
    chunk = make_chunk(state_spec, 3, truncated=cut, last=True, mask=np.ones(3, np.float32), success=False)
    decoded = decode_chunk(encode_chunk(chunk), state_spec)
    assert decoded.truncated[-1]
    assert decoded.mask[-1] == 1.0


@given(st.integers(1, 12), st.data())
def test_skipping_leaves_the_tail(make_chunk, state_spec, n, data):
    chunk = make_chunk(state_spec, n, last=True, first_step=7)
    count = data.draw(st.integers(0, n - 1))
    rest = chunk.skip(count)
    rest.check(state_spec)
    assert rest.first_step == 7 + count
    assert np.array_equal(rest.reward, chunk.reward[count:])
    assert np.array_equal(rest.observation["state"], chunk.observation["state"][count:])


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_selected_pieces_are_the_selected_transitions(make_chunk, state_spec, keep):
    chunk = make_chunk(state_spec, len(keep), last=True)
    pieces = list(chunk.select(np.array(keep)))
    for piece in pieces:
        piece.check(state_spec)
    rewards = [value for piece in pieces for value in piece.reward]
    following = [row.tolist() for piece in pieces for row in piece.observation["state"][1:]]
    assert np.array_equal(rewards, chunk.reward[keep])
    assert following == chunk.observation["state"][1:][keep].tolist()
    assert sum(piece.last for piece in pieces) == int(keep[-1])


@given(specs)
def test_a_spec_survives_its_text(spec):
    again = TransitionSpec.from_json(spec.to_json())
    assert again == spec
    assert again.fingerprint == spec.fingerprint


@given(
    st.text()
    | st.sampled_from(
        [
            '{"observation": {}}',
            '{"observation": {"a": [[1e99], "float32"]}}',
            "[" * 9999,
            '{"observation": {"a": [[1e999], "float32"]}, "action_dim": 1}',
        ]
    )
)
def test_other_text_is_no_spec(text):
    with pytest.raises(DataError):
        TransitionSpec.from_json(text)


def test_specs_come_from_spaces():
    gymnasium = pytest.importorskip("gymnasium")
    observation = gymnasium.spaces.Dict({"state": gymnasium.spaces.Box(-1, 1, (7,), np.float32)})
    spec = TransitionSpec.from_spaces(observation, gymnasium.spaces.Box(-1, 1, (3,), np.float32))
    assert spec == TransitionSpec({"state": ((7,), "float32")}, 3)
