# SPDX-License-Identifier: Apache-2.0
"""From deltas of an action to what is commanded: of the tool, or of the joints."""
