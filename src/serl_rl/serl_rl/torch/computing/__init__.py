# SPDX-License-Identifier: Apache-2.0
"""How PyTorch computes: trees of tensors, random numbers, optimizers, compiled steps, devices, processes."""
