# SPDX-License-Identifier: Apache-2.0
"""Robotiq's two-finger grippers 2F-85 and 2F-140 at a serial port, by Modbus RTU."""
