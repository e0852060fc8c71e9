# SPDX-License-Identifier: Apache-2.0
"""Policies as arrays, and acting with them in numpy."""
