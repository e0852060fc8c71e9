# SPDX-License-Identifier: Apache-2.0
"""Hostile messages to everything that listens."""
