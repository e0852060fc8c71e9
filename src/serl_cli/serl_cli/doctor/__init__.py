# SPDX-License-Identifier: Apache-2.0
"""What is in the way of learning, on this machine and at a bench: found step by step, and what to do about it."""
