# SPDX-License-Identifier: Apache-2.0
"""Online learning on one robot in one process: an imported policy shows, and a learner gets better than it."""
