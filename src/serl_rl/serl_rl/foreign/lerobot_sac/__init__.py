# SPDX-License-Identifier: Apache-2.0
"""What LeRobot's HIL-SERL made: directories of its SAC policy and of its reward classifier."""
