# SPDX-License-Identifier: Apache-2.0
"""Benchmarks inside one process."""
