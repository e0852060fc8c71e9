# SPDX-License-Identifier: Apache-2.0
"""From actions to commands of an arm."""
