# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what is measured, how, and on which machine."""
