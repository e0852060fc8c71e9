# SPDX-License-Identifier: Apache-2.0
"""Check the virtual environment that this runs in; name the first thing that is wrong with it.

Without an argument: every file that pip installed is there. With the path of a lock: every package of the lock is
installed, and so is everything that these packages require, but for what the files LOCK.overrides and LOCK.excludes
beside it say otherwise about.
"""

import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path


def installed() -> dict[str, Distribution]:
    """Return what pip installed, by normalized name."""
    # The ROS wheels carry their sources' egg-info folders too, which do not describe an installation.
    return {normalized(found.name): found for found in distributions() if found.read_text("RECORD") is not None}


def normalized(name: str) -> str:
    """Return a package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing_file() -> Path | None:
    """Return the path of a file that pip's records name and that is not there."""
    for distribution in installed().values():
        for file in distribution.files or ():
            path = Path(file.locate())
            if path.suffix != ".pyc" and not path.exists():
                return path
    return None


def named(requirements: Path) -> list[str]:
    """Return the packages that a file of requirements names; none where there is no file."""
    text = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    return re.findall(r"^[A-Za-z0-9][\w.-]*", text, re.MULTILINE)


def hole(lock: Path) -> str | None:
    """Return one line about a package that the lock names, or that its packages require, and that is not there."""
    from packaging.requirements import Requirement

    found = installed()
    otherwise = {normalized(name) for kind in ("overrides", "excludes") for name in named(lock.with_suffix(f".{kind}"))}
    # (who asks, for what, with which extra of the one who asks)
    pinned = re.findall(r"^[A-Za-z0-9][^\\\n#]*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    waiting = [(str(lock), line, "") for line in pinned]
    seen = set(waiting)
    while waiting:
        asking, text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        distribution = found.get(normalized(requirement.name))
        if distribution is None:
            return f"{lock} has a hole: {asking} requires {text}, which the lock does not bring"
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            return f"{lock} has a hole: {asking} requires {text}, but {distribution.version} is installed"
        for extra in ("", *requirement.extras):
            for needed in distribution.requires or ():
                if normalized(re.match(r"[\w.-]+", needed)[0]) in otherwise:  # type: ignore[index]
                    continue  # an override is pinned by the lock itself, in the version that is wanted
                if (entry := (f"{distribution.name} {distribution.version}", needed, extra)) not in seen:
                    seen.add(entry)
                    waiting.append(entry)
    return None


if __name__ == "__main__":
    if len(sys.argv) > 1:
        wrong = hole(Path(sys.argv[1]))
    else:
        missing = missing_file()
        wrong = f"the virtual environment is damaged: {missing.absolute()} is missing" if missing else None
    if wrong:
        sys.exit(f"serl: {wrong}")
