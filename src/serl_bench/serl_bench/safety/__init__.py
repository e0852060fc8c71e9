# SPDX-License-Identifier: Apache-2.0
"""How soon an arm stops, and what its commands never exceed."""
