# SPDX-License-Identifier: Apache-2.0
"""Install a lock into the virtual environment that this runs in, whatever pip's own settings on this machine say."""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What a machine's settings may say about where packages come from. Others (user, target, constraint, no-binary, ...)
# would change what is installed, or where.
NETWORK = frozenset(
    "cache-dir cert client-cert default-timeout extra-index-url find-links index-url keyring-provider no-cache-dir"
    " no-index proxy resume-retries retries timeout trusted-host use-deprecated use-feature".split()
)
# The packages without a wheel. They are built with the locked setuptools instead of whatever is the newest one today.
BUILT_HERE = "empy,evdev,feetech-servo-sdk"
BUILDER = "setuptools"


def pip(*arguments: str, environment: dict[str, str], **options: object) -> "subprocess.CompletedProcess[str]":
    """Run this environment's pip. Raises CalledProcessError when it fails."""
    command = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return subprocess.run(command, env=environment, check=True, text=True, **options)  # type: ignore[call-overload]


def clean_environment() -> dict[str, str]:
    """Return this process's environment with pip's settings reduced to those about the network.

    Settings come from variables, from pip.conf of the machine, of the user and of the environment; pip merges them.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    listing = pip("config", "list", environment=dict(os.environ), stdout=subprocess.PIPE).stdout
    settings = re.findall(r"^(:env:|global|install)\.([\w-]+)=(.*)$", listing, re.MULTILINE)
    for section in ("global", "install", ":env:"):  # the later one wins
        for found, name, value in settings:
            if found == section and name in NETWORK:
                kept[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(str(ast.literal_eval(value)).split())
    # A package without a wheel gets one: the pip of Debian 12 runs its setup.py otherwise, which leaves no record.
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_USE_PEP517": "1"}


def entries(lock: str) -> Iterator[tuple[str, str]]:
    """Yield each package's normalized name and its lines of the lock."""
    for entry in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+.*)*", lock, re.MULTILINE):
        yield re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", entry)[0]).lower(), entry  # type: ignore[index]


def install(lock: Path) -> None:
    """Install what a lock says. Raises CalledProcessError when pip fails, whose output says why."""
    environment = clean_environment()
    # The lock is complete, so pip need not look for anything else: an extra would otherwise find versions of today.
    options = ["install", "--no-deps", "--require-hashes", "--no-build-isolation", "--only-binary=:all:"]
    builder = "\n".join(entry for name, entry in entries(lock.read_text(encoding="utf-8")) if name == BUILDER)
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "builder.txt"
        first.write_text(builder + "\n", encoding="utf-8")
        pip(*options, "-r", str(first), environment=environment)
    pip(*options, f"--no-binary={BUILT_HERE}", "-r", str(lock), environment=environment)


def look_for(name: str, lock: Path) -> None:
    """Find a package of a lock, and install nothing. Raises CalledProcessError when pip does not find that version."""
    (entry,) = (entry for found, entry in entries(lock.read_text(encoding="utf-8")) if found == name)
    requirement = entry.partition("\\")[0].strip()
    options = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:"]
    pip(*options, requirement, environment=clean_environment())


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--look-for":
            look_for(sys.argv[2], Path(sys.argv[3]))
        else:
            install(Path(sys.argv[1]))
    except subprocess.CalledProcessError as failure:
        sys.exit(failure.returncode)
