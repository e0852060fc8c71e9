# SPDX-License-Identifier: Apache-2.0
"""Picture encoders in PyTorch."""
