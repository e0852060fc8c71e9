# SPDX-License-Identifier: Apache-2.0
"""Many trainings of one file: what they are, how they run, and what they say together."""
