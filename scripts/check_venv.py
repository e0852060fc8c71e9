# SPDX-License-Identifier: Apache-2.0
"""Look for every file that pip installed into the virtual environment this runs in; name the first missing one."""

import os
import sys
from importlib.metadata import distributions


def missing_file() -> str | None:
    """Return the path of a file that pip's records name and that is not there."""
    for distribution in distributions():
        # The ROS wheels carry their sources' egg-info folders too, whose file lists were never meant for an installation.
        if distribution.read_text("RECORD") is None:
            continue
        for file in distribution.files or ():
            path = str(file.locate())
            if not path.endswith(".pyc") and not os.path.exists(path):
                return path
    return None


if __name__ == "__main__":
    missing = missing_file()
    if missing:
        sys.exit(f"serl: the virtual environment is damaged: {os.path.normpath(missing)} is missing")
