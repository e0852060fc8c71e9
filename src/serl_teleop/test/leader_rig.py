# SPDX-License-Identifier: Apache-2.0
"""An SO-101 leader of emulated servos, at a pseudo-terminal or in this process, with a calibration file."""

from collections.abc import Iterable
from pathlib import Path

from serl_feetech.arm import SO_ARM
from serl_feetech.calibration import Calibration, ServoCalibration, write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo

CALIBRATION: Calibration = {
    name: ServoCalibration(number, 0, 0, 800, 3296) for number, name in enumerate(SO_ARM, start=1)
}


class PluggedInLeader:
    """A serial port with an emulated leader behind it."""

    def __init__(self, root: Path) -> None:
        self.calibration, self.path = root / "leader.json", root / "ttyACM0"
        write_calibration(self.calibration, CALIBRATION)
        self.plug_in()

    @property
    def parameters(self) -> Iterable[str]:
        """Of the node `teleop`."""
        return (f"leader.port:={self.path}", f"leader.calibration:={self.calibration}")

    def plug_in(self) -> None:
        """Make the serial port; the servos have just been switched on."""
        self.terminal = PseudoTerminal(EmulatedBus([EmulatedServo(number) for number in range(1, 7)]), self.path)

    def unplug(self) -> None:
        """Take it away from whoever has it open."""
        self.terminal.close()

    def turn(self, joint: int, steps: float | None) -> None:
        """Move a joint by hand from where it is; None: let go of it."""

        def by_hand(wire: EmulatedBus) -> None:
            servo = wire.servo(joint)
            servo.hand = None if steps is None else servo.position + steps

        self.terminal.change(by_hand)
