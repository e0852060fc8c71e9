# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks and the tests of the arm controller share."""
