# SPDX-License-Identifier: Apache-2.0
"""Reward classifiers from the command line: frames, training, a look at mistakes; and a person's own word."""
