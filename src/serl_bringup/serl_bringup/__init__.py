# SPDX-License-Identifier: Apache-2.0
"""Launch files, configuration and robot descriptions, the launch runner and the command line."""
