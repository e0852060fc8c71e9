# SPDX-License-Identifier: Apache-2.0
"""Buffers that batches are drawn from."""
