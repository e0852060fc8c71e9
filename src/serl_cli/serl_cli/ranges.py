# SPDX-License-Identifier: Apache-2.0
"""What the numbers of the command line may be."""

LARGEST_COUNT = 2**31 - 1
"""Largest number of whatever is counted: messages hold no more."""

MOST_CONFIRMATIONS = 100
"""Further evaluations that a training may have to pass, at most; the action `train` refuses more."""

MOST_ACTORS = 100
"""Arms of one fleet that a command starts."""
