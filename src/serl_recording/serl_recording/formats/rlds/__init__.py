# SPDX-License-Identifier: Apache-2.0
"""RLDS: episodes in the files of TensorFlow Datasets, written and read without TensorFlow."""
