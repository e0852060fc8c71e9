# SPDX-License-Identifier: Apache-2.0
"""The e-stop as a signal, for who cannot reach the graph."""

import signal
from types import FrameType


class StopSignal:
    """SIGUSR1 stops the arm as `arm/estop` does: for who has the process at hand and no answer from the graph."""

    asked = False

    @classmethod
    def install(cls) -> None:
        """Heed the signal from now on; the node looks at it with every timer."""
        signal.signal(signal.SIGUSR1, cls._on_signal)

    @classmethod
    def _on_signal(cls, _number: int, _frame: FrameType | None) -> None:
        cls.asked = True
