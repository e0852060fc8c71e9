# SPDX-License-Identifier: Apache-2.0
"""What is shown of a run: curve, summary, film."""
