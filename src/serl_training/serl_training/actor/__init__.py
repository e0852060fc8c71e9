# SPDX-License-Identifier: Apache-2.0
"""Who acts: episodes, and what is made of their pictures."""
