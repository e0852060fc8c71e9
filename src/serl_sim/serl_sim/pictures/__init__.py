# SPDX-License-Identifier: Apache-2.0
"""What the cameras of a simulated world see."""
