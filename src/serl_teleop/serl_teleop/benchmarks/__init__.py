# SPDX-License-Identifier: Apache-2.0
"""Worlds in one process in which a person takes the arm over again and again."""
