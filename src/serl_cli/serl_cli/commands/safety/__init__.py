# SPDX-License-Identifier: Apache-2.0
"""Commands that keep others and the arm apart: stops, and keys."""
