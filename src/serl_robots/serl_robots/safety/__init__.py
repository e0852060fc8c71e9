# SPDX-License-Identifier: Apache-2.0
"""What an arm may do: limits, the safety filter, braking, and when it has to stand still."""
