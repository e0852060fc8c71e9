# SPDX-License-Identifier: Apache-2.0
"""Labelled frames, calibration and files of reward classifiers. Knows no backend."""
