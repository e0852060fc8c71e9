# SPDX-License-Identifier: Apache-2.0
"""LeRobot's commands, also where torchvision was built for a GPU: `lerobot-NAME` in the workspace's environment.

`python -m serl_lerobot NAME ...` is the same.
"""

import sys
from pathlib import Path

from serl_lerobot.compat import LeRobotMissing, load


def main() -> None:
    """Entry point: `record --robot.type=serl ...` is `lerobot-record --robot.type=serl ...`."""
    if len(sys.argv) < 2 or not sys.argv[1].replace("-", "_").isidentifier():
        raise SystemExit("expected the name of a command of LeRobot, as record, replay, teleoperate or train")
    _run(sys.argv.pop(1))


def command() -> None:
    """Entry point of each `lerobot-NAME`."""
    _run(Path(sys.argv[0]).stem.removeprefix("lerobot-"))


def _run(name: str) -> None:
    try:
        script = load(f"lerobot.scripts.lerobot_{name.replace('-', '_')}")
    except LeRobotMissing as error:
        raise SystemExit(str(error)) from None
    sys.argv[0] = f"lerobot-{name}"
    script.main()


if __name__ == "__main__":
    main()
