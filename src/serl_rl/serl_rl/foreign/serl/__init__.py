# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SERL and HIL-SERL, which flax or orbax wrote."""
