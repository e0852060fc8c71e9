# SPDX-License-Identifier: Apache-2.0
"""`python -m serl_lerobot NAME ...`: LeRobot's command `lerobot-NAME`, also where torchvision was built for a GPU."""

import sys

from serl_lerobot.compat import LeRobotMissing, load


def main() -> None:
    """Entry point: `record --robot.type=serl ...` is `lerobot-record --robot.type=serl ...`."""
    if len(sys.argv) < 2 or not sys.argv[1].isidentifier():
        raise SystemExit("expected the name of a command of LeRobot, as record, replay, teleoperate or train")
    name = sys.argv.pop(1)
    try:
        script = load(f"lerobot.scripts.lerobot_{name}")
    except LeRobotMissing as error:
        raise SystemExit(str(error)) from None
    sys.argv[0] = f"lerobot-{name}"
    script.main()


if __name__ == "__main__":
    main()
