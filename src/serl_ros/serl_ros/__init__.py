# SPDX-License-Identifier: Apache-2.0
"""What every SERL node shares: parameters, QoS, executor, diagnostics, start and stop."""
