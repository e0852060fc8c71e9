# SPDX-License-Identifier: Apache-2.0
"""Stands in for the package of this name: what our mapping asks of it, and a hand that goes to a goal."""
