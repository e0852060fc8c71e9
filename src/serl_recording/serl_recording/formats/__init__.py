# SPDX-License-Identifier: Apache-2.0
"""A module or a folder for each format, with a reader, a writer, or both."""
