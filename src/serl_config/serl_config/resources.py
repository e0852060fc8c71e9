# SPDX-License-Identifier: Apache-2.0
"""Finds the files that `serl_bringup` installs: `launch/`, `config/` and `urdf/`."""

import os
from pathlib import Path

SHARE_VARIABLE = "SERL_SHARE"
"""Environment variable: folders with files of one's own, which are looked at first."""

_MARKER = Path("src") / "serl_robots" / "package.xml"


class ResourceError(FileNotFoundError):
    """A file of the workspace is in none of the places where it may be."""


def roots() -> tuple[Path, ...]:
    """Folders that may hold `config/`, `launch/` and `urdf/`, first wins.

    1. `SERL_SHARE`: one or more folders, separated like `PATH`, for files of one's own;
    2. `share/serl_bringup` of every prefix in `AMENT_PREFIX_PATH`;
    3. the source checkout that this module lies in, if it does.
    """
    own = [Path(entry) for entry in os.environ.get(SHARE_VARIABLE, "").split(os.pathsep) if entry]
    prefixes = [entry for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    installed = [Path(prefix) / "share" / "serl_bringup" for prefix in prefixes]
    parents = Path(__file__).resolve().parents
    checkout = [parent for parent in parents if (parent / _MARKER).is_file()]
    return tuple(dict.fromkeys(own + installed + checkout))


def find(relative_path: str) -> Path:
    """Absolute path of e.g. `config/tasks/pick_cube.yaml`.

    Raises:
        ResourceError: it is in none of `roots()`.
    """
    places = [root / relative_path for root in roots()]
    for place in places:
        if place.is_file():
            return place.absolute()
    looked = ", ".join(map(str, places)) or "nowhere (no AMENT_PREFIX_PATH: source the workspace or set SERL_SHARE)"
    raise ResourceError(f"{relative_path} not found; looked at {looked}")


def listing(folder: str, suffix: str) -> dict[str, Path]:
    """Files of a folder by stem, e.g. `listing("config/tasks", ".yaml")`, sorted; as `find`, the first root wins.

    Neither links to what is gone, as an installation has them after a file was renamed, nor hidden files, as editors
    leave them, are among them.
    """
    found: dict[str, Path] = {}
    for root in roots():
        for path in (root / folder).glob(f"*{suffix}"):
            if path.name.startswith(".") or not path.is_file():
                continue
            found.setdefault(path.name.removesuffix(suffix), path.absolute())
    return dict(sorted(found.items()))
