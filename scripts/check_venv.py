# SPDX-License-Identifier: Apache-2.0
"""Look for every file that pip installed into the virtual environment this runs in; name the first missing one."""

import sys
from importlib.metadata import distributions
from pathlib import Path


def missing_file() -> Path | None:
    """Return the path of a file that pip's records name and that is not there."""
    for distribution in distributions():
        # The ROS wheels carry their sources' egg-info folders too, whose file lists do not describe an installation.
        if distribution.read_text("RECORD") is None:
            continue
        for file in distribution.files or ():
            path = Path(file.locate())
            if path.suffix != ".pyc" and not path.exists():
                return path
    return None


if __name__ == "__main__":
    missing = missing_file()
    if missing:
        sys.exit(f"serl: the virtual environment is damaged: {missing.absolute()} is missing")
