# SPDX-License-Identifier: Apache-2.0
"""What goes between actor and learner."""
