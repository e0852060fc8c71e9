# SPDX-License-Identifier: Apache-2.0
"""The link with keys between the machines of a run: mutual TLS, and a list of all that it carries."""
