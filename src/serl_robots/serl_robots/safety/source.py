# SPDX-License-Identifier: Apache-2.0
"""Who may lead an arm: the word that arbitration decides by and that `arm/safety` says."""

from enum import IntEnum


class Source(IntEnum):
    """Who leads; the numbers are those of `ExecutedAction.SOURCE_*` and `SafetyStatus.MODE_*`."""

    IDLE = 0
    POLICY = 1
    HUMAN = 2
    MOVE_TO = 3
    ESTOP = 4
