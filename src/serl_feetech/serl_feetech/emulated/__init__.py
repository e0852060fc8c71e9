# SPDX-License-Identifier: Apache-2.0
"""A bus of servos without servos: registers, motion and faults of each, spoken to by the real packets.

`EmulatedBus` answers bytes with bytes, `EmulatedPort` is a port on it in the same process, and `PseudoTerminal` one
that any program opens as a serial port.
"""
