# SPDX-License-Identifier: Apache-2.0
"""Pickles of arrays, tensors and transitions, read by machines that run none of them."""
