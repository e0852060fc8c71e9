# SPDX-License-Identifier: Apache-2.0
"""Scripted persons of worlds that others wrote, a module each."""
