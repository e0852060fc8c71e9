# SPDX-License-Identifier: Apache-2.0
"""Stands for xarm-python-sdk 1.18.4: names, signatures, units and codes are those of the vendor's."""
