# SPDX-License-Identifier: Apache-2.0
"""WidowX AI of Trossen Robotics: its device by the vendor's driver."""
