# SPDX-License-Identifier: Apache-2.0
"""Several actors with one learner: who does which part of a training, an evaluation or a recording."""
