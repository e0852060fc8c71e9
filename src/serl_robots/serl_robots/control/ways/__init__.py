# SPDX-License-Identifier: Apache-2.0
"""Motions along ways that are planned elsewhere."""
