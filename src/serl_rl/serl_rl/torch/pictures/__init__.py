# SPDX-License-Identifier: Apache-2.0
"""Encoders of pictures in front of an agent or a policy."""
