# SPDX-License-Identifier: Apache-2.0
"""Devices by which a person leads, and what turns what they report into actions. No ROS.

A `Device` reports a `DeviceState`; an `Operator` decides by it whether the person leads, and what they want; `Priority`
chooses between several; `ActionMapping` makes an action of the task of it. The node `teleop` puts it on the graph.
"""
