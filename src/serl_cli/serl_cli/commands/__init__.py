# SPDX-License-Identifier: Apache-2.0
"""Arguments and options of the commands; one module for each."""
