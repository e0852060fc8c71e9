# SPDX-License-Identifier: Apache-2.0
"""MuJoCo worlds, Gymnasium environments and the MuJoCo bridge node."""
