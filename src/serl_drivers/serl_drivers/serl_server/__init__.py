# SPDX-License-Identifier: Apache-2.0
"""The robot server of SERL and HIL-SERL: a device that speaks its end points, and a server that is not there."""
