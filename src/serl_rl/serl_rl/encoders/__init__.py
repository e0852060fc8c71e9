# SPDX-License-Identifier: Apache-2.0
"""Weights of picture encoders: files, names and shapes. Knows no backend."""
