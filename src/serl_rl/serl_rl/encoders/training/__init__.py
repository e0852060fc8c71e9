# SPDX-License-Identifier: Apache-2.0
"""How encoders are trained: what is shown to them, in which order, and what comes of it. A backend computes."""
