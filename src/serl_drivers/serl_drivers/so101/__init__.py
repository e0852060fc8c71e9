# SPDX-License-Identifier: Apache-2.0
"""SO-101 and other followers of STS3215 servos."""
