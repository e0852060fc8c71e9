# SPDX-License-Identifier: Apache-2.0
"""Mutation test: are the tests of the learning code red when it is wrong?

src/serl_rl/test/mutants.toml lists faults, each a piece of text and what stands there instead. One by one they are
planted in a copy of src/serl_rl, and the tests that should notice run on it until the first one fails. The working tree
is left alone.

    ./serl test --mutants [WORD ...] [--jobs N]

With words only the faults run whose file or reason has one of them. The exit status is 1 if a fault survives all of its
tests, if its text is not found exactly once any more, or if the tests fail without any fault.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src/serl_rl")
LIST = PACKAGE / "test/mutants.toml"

# Of pytest: all passed, some failed.
PASSED, FAILED = 0, 1


class ListError(ValueError):
    """The list of mutants does not fit the code."""


@dataclass(frozen=True)
class Mutant:
    """A fault that tests must notice."""

    file: Path
    """In which it is planted, from the root of the workspace."""
    why: str
    """What is wrong then."""
    old: str
    """Text that is in the file exactly once."""
    new: str
    """What stands there instead."""
    tests: tuple[str, ...]
    """Files and folders, from the root of the workspace."""
    only: str = ""
    """A word that the names of tests have which run, as pytest's -k; empty: all."""

    def of(self, text: str) -> str:
        """The text of its file with the fault in it.

        Raises:
            ListError: the old text is not in it exactly once, or the new one is no Python.
        """
        found = text.count(self.old)
        if found != 1:
            raise ListError(f"{LIST}: {self.file}: expected once, found {found} times: {self.old!r} ({self.why})")
        changed = text.replace(self.old, self.new)
        try:
            compile(changed, str(self.file), "exec")
        except SyntaxError as error:
            raise ListError(f"{LIST}: {self.file}: expected Python, found {self.new!r}: {error}") from error
        return changed


@dataclass(frozen=True)
class Outcome:
    """What the tests said."""

    status: int
    """Exit status of pytest."""
    failed: str
    """The first test that failed; empty if none did."""
    seconds: float
    output: str


def read_list(root: Path) -> list[Mutant]:
    """The mutants of a workspace.

    Raises:
        ListError: the list is of another form, or names tests that are not there.
    """
    mutants = []
    for entry in tomllib.loads((root / LIST).read_text(encoding="utf-8"))["file"]:
        tests = tuple(str(PACKAGE / "test" / name) for name in entry["tests"])
        if missing := [name for name in tests if not (root / name).exists()]:
            raise ListError(f"{LIST}: {entry['path']}: expected tests that exist, found {missing}")
        for fault in entry["mutant"]:
            if set(fault) != {"why", "old", "new"} or fault["old"] == fault["new"]:
                raise ListError(f"{LIST}: {entry['path']}: expected why, old and another new, found {fault}")
            only = entry.get("only", "")
            mutants.append(Mutant(PACKAGE / entry["path"], fault["why"], fault["old"], fault["new"], tests, only))
    return mutants


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A folder with the package, its tests and what these read, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="serl-mutant-") as folder:
        copy = Path(folder)
        for name in ("pyproject.toml", "config"):
            (copy / name).symlink_to(root / name)
        shutil.copytree(root / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        yield copy


def run_tests(copy: Path, tests: Sequence[str], only: str, cache: Path) -> Outcome:
    """Run tests in a copy, with what is imported from it, until the first one fails.

    Args:
        copy: of `copy_of`.
        tests: from its root.
        only: a word that their names have; empty: all.
        cache: for what JAX compiles; the same for all, since most of it is the same with every fault.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(copy / PACKAGE), os.environ.get("PYTHONPATH", "")]),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=short",
        "-rfE",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        *(("-k", only) if only else ()),
        *tests,
    ]
    start = time.monotonic()
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    name = failed.group(1).removeprefix(f"{PACKAGE}/test/") if failed else ""
    return Outcome(result.returncode, name, time.monotonic() - start, result.stdout + result.stderr)


def try_mutant(root: Path, mutant: Mutant, cache: Path) -> Outcome:
    """Run the tests of a mutant on a copy with its fault in it. Raises ListError if it does not fit the code."""
    with copy_of(root) as copy:
        file = copy / mutant.file
        file.write_text(mutant.of(file.read_text(encoding="utf-8")), encoding="utf-8")
        return run_tests(copy, mutant.tests, mutant.only, cache)


def verdict(outcome: Outcome) -> str:
    """How a line of the table says it."""
    if outcome.status == FAILED and outcome.failed:
        return f"killed by {outcome.failed}"
    if outcome.status == PASSED:
        return "SURVIVED"
    last = outcome.output.strip().splitlines()[-1:]
    return f"NO ANSWER: pytest ended with status {outcome.status}: {' '.join(last)}"


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run the mutants that are asked for and print what became of each; returns the exit status."""
    parser = argparse.ArgumentParser(prog="./serl test --mutants", description="Plant faults; tests must notice them.")
    parser.add_argument("words", nargs="*", help="run only faults whose file or reason has one of these words")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time")
    options = parser.parse_args(arguments)
    try:
        mutants = read_list(root)
        for mutant in mutants:
            mutant.of((root / mutant.file).read_text(encoding="utf-8"))
    except (ListError, OSError) as error:
        print(f"serl: error: {error}", file=sys.stderr)
        return 1
    wanted = [m for m in mutants if not options.words or any(word in f"{m.file} {m.why}" for word in options.words)]
    if not wanted:
        print(f"serl: error: {LIST}: no fault has any of the words {options.words}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="serl-compiled-") as folder:
        cache = Path(folder)
        for only in sorted({mutant.only for mutant in wanted}):
            tests = sorted({name for mutant in wanted if mutant.only == only for name in mutant.tests})
            print(f"serl: the tests without any fault: {len(tests)} files and folders {only}".rstrip(), flush=True)
            with copy_of(root) as copy:
                outcome = run_tests(copy, tests, only, cache)
            if outcome.status != PASSED:
                print(outcome.output, "serl: error: the tests fail without any fault", sep="\n", file=sys.stderr)
                return 1
        survived = 0
        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = pool.map(lambda mutant: try_mutant(root, mutant, cache), wanted)
            for number, (mutant, outcome) in enumerate(zip(wanted, outcomes, strict=True), 1):
                said = verdict(outcome)
                survived += not said.startswith("killed")
                where = mutant.file.relative_to(PACKAGE)
                print(f"{number:3}/{len(wanted)} {where}: {mutant.why}: {said} ({outcome.seconds:.0f} s)", flush=True)
    print(f"serl: {len(wanted) - survived} of {len(wanted)} faults were noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
