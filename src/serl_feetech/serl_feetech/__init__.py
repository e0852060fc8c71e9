# SPDX-License-Identifier: Apache-2.0
"""Feetech's STS servos on their bus: packets, registers, LeRobot's calibration files, and arms of such servos. No ROS.

A `Bus` on a `SerialPort` speaks to servos by id; a `ServoArm` of several reports and takes angles; `emulated` has a bus
of its own making, in process or at a pseudo-terminal.
"""
