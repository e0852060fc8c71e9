# SPDX-License-Identifier: Apache-2.0
"""The JAX backend: everything of the learning library that imports JAX."""
