# SPDX-License-Identifier: Apache-2.0
"""Packets against Feetech's manual, and answers that arrive among garbage, in pieces and broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_feetech.packet import Errors, Instruction, Status, StatusReader

from serl_feetech import packet, registers

IDS = st.integers(0, packet.LAST_ID)


def test_packets_are_those_of_the_manual():
    # examples of the protocol's manual: ping 1, read the position of 1, write the goal of 1
    assert packet.instruction(1, Instruction.PING) == bytes.fromhex("ffff010201fb")
    assert packet.instruction(1, Instruction.READ, b"\x38\x02") == bytes.fromhex("ffff01040238 02be".replace(" ", ""))
    assert packet.instruction(0xFE, Instruction.WRITE, b"\x05\x01") == bytes.fromhex("fffffe04030501f4")


@given(IDS, st.integers(0, 0x7F), st.binary(max_size=8), st.binary(max_size=40), st.data())
def test_an_answer_is_found_behind_any_garbage_and_in_any_pieces(servo, errors, parameters, garbage, data):
    # garbage that is itself the beginning of an answer of this length may swallow it: then it is asked again
    garbage = garbage.replace(b"\xff", b"\xfe")
    stream = garbage + packet.status(servo, errors, parameters)
    cut = data.draw(st.integers(0, len(stream)))
    reader = StatusReader(len(parameters))
    found = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
    assert found == [Status(servo, Errors(errors), parameters)]
    assert reader.skipped == len(garbage)


@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(0, 6))
def test_no_bytes_break_the_reader_and_whatever_it_finds_has_the_right_checksum(pieces, size):
    reader, found = StatusReader(size), []
    for piece in pieces:
        found += reader.feed(piece)
    stream = b"".join(pieces)
    for status in found:
        assert packet.status(status.servo, int(status.errors), status.parameters) in stream
        assert len(status.parameters) in (0, size)
    found += reader.feed(b"\0" * 300)
    assert not reader.feed(b""), "nothing is waited for behind so many zeros"
    assert reader.feed(packet.status(3, 0, bytes(size))) == [Status(3, Errors(0), bytes(size))]


@given(st.integers(-2047, 2047))
def test_an_amount_with_a_sign_bit_comes_back(value):
    assert packet.with_sign(packet.without_sign(value, 11), 11) == value
    assert registers.HOMING_OFFSET.decode(registers.HOMING_OFFSET.encode(value)) == value


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="below 2048"):
        registers.HOMING_OFFSET.encode(2048)
    with pytest.raises(ValueError, match="register 55"):
        registers.LOCK.encode(256)
    with pytest.raises(ValueError, match="id of a servo"):
        packet.instruction(255, Instruction.PING)
