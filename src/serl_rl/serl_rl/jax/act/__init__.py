# SPDX-License-Identifier: Apache-2.0
"""The network of an ACT policy in JAX: acting, and training."""
