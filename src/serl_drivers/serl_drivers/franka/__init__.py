# SPDX-License-Identifier: Apache-2.0
"""Franka's arms by libfranka: their device, and the Franka hand beside it."""
