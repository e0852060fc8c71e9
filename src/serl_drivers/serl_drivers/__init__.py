# SPDX-License-Identifier: Apache-2.0
"""Drivers of real arms: one contract (`device`), what moves an arm by it (`driver`), and one folder for each arm."""
