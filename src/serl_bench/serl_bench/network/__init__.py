# SPDX-License-Identifier: Apache-2.0
"""Networks between hosts that are simulated on this machine, for tests and benchmarks of graphs on several hosts."""
