# SPDX-License-Identifier: Apache-2.0
"""The command line ``serl``: one module for each command, nothing heavy imported before it is needed."""
