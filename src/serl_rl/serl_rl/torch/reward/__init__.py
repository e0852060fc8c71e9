# SPDX-License-Identifier: Apache-2.0
"""Reward classifiers in PyTorch."""
