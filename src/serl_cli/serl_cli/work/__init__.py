# SPDX-License-Identifier: Apache-2.0
"""What the commands do: training, recording, evaluation."""
