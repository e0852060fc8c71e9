# SPDX-License-Identifier: Apache-2.0
"""A leader arm: it follows the robot while the policy acts, and leads it while a person has it in their hand."""
