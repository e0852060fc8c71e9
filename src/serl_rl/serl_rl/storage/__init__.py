# SPDX-License-Identifier: Apache-2.0
"""What is kept of experience, and its bytes: chunks, segments of the journal, tensors, demonstrations."""
