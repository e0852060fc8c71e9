# SPDX-License-Identifier: Apache-2.0
"""``python -m serl_launch``: the command `launch`, without the rest of the command line."""

import sys

from serl_launch.launch_command import main

if __name__ == "__main__":
    sys.exit(main())
