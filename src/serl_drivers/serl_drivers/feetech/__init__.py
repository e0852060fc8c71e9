# SPDX-License-Identifier: Apache-2.0
"""Arms of STS3215 servos at a serial port, as the SO-101 is."""
