# SPDX-License-Identifier: Apache-2.0
"""The operator's console: a page in the browser that shows what the arm does, and from which a person leads it."""
