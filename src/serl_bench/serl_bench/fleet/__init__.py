# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of several arms that learn together."""
