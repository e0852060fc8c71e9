# SPDX-License-Identifier: Apache-2.0
"""Policies that were made before: opened by a reference, and made to act on the observations of a task."""
