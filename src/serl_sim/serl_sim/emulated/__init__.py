# SPDX-License-Identifier: Apache-2.0
"""An arm of emulated servos in a simulated world: what moves it comes over its serial bus, as with a real one."""
