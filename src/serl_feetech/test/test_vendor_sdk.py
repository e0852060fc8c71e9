# SPDX-License-Identifier: Apache-2.0
"""Feetech's own SDK, on which LeRobot stands, talks to the emulated bus as to a real one; where it is installed."""

import types
from typing import Any

import pytest
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo

sdk = pytest.importorskip("scservo_sdk", reason="./serl setup lerobot")

IDS = range(1, 7)


def test_the_unmodified_sdk_pings_reads_and_writes_one_servo_and_several():
    with PseudoTerminal(EmulatedBus([EmulatedServo(number) for number in IDS])) as terminal:
        port = sdk.PortHandler(terminal.path)
        assert port.openPort()
        assert port.setBaudRate(1_000_000)

        def wait_longer(self: Any, _length: int) -> None:  # its own limit is short for a loaded machine
            self.packet_start_time, self.packet_timeout = self.getCurrentTime(), 5000.0

        port.setPacketTimeout = types.MethodType(wait_longer, port)
        handler = sdk.PacketHandler(0)
        assert handler.ping(port, 3) == (777, 0, 0)
        assert handler.write2ByteTxRx(port, 3, 42, 2500) == (0, 0)
        assert handler.read2ByteTxRx(port, 3, 42) == (2500, 0, 0)
        write, read = sdk.GroupSyncWrite(port, handler, 42, 2), sdk.GroupSyncRead(port, handler, 42, 2)
        for number in IDS:
            assert write.addParam(number, list((2000 + number).to_bytes(2, "little")))
            assert read.addParam(number)
        assert write.txPacket() == 0
        assert read.txRxPacket() == 0
        assert [read.getData(number, 42, 2) for number in IDS] == [2000 + number for number in IDS]
        port.closePort()
