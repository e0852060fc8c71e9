# SPDX-License-Identifier: Apache-2.0
"""Tasks x settings x seeds, each trained by the command that a person types: the judge of the learning code."""
