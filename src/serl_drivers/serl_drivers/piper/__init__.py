# SPDX-License-Identifier: Apache-2.0
"""AgileX Piper: its device by the vendor's SDK, and an arm that is not there."""
