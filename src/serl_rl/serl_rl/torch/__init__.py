# SPDX-License-Identifier: Apache-2.0
"""The PyTorch backend: everything of the learning library that imports PyTorch, under the names of the JAX backend."""
