# SPDX-License-Identifier: Apache-2.0
"""What is left of a run for people to look at: the learning curve and a video."""
