# SPDX-License-Identifier: Apache-2.0
"""Where a person leads: devices and the scripted human."""
