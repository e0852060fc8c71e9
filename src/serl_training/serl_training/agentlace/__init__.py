# SPDX-License-Identifier: Apache-2.0
"""What comes from scripts of SERL, by agentlace's wire, on its way to our learner."""
