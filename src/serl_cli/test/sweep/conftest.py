# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of this folder import the helper here; gives them a sweep of four trials and what runs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from emulated_train import FILE, TRAIN, written
from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.run_trials import TrialRunner
from serl_cli.sweep.settings import Sweep, read_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return read_sweep(written(tmp_path, FILE))


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "kept")


@pytest.fixture
def runner(folder: SweepFolder) -> TrialRunner:
    def command(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", TRAIN, *arguments]

    return TrialRunner(folder, command)
