# SPDX-License-Identifier: Apache-2.0
"""ACT policies that are trained here, from demonstrations or from what a better policy does."""
