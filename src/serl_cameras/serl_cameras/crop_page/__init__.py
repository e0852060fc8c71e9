# SPDX-License-Identifier: Apache-2.0
"""The web page on which a camera's crop is chosen."""
