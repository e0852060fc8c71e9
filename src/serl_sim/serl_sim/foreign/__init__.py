# SPDX-License-Identifier: Apache-2.0
"""Worlds that others wrote."""
