# SPDX-License-Identifier: Apache-2.0
"""`colcon build` installs what belongs to a package, and `colcon test` runs its tests: with colcon itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = "def test_that_passes():\n    pass\n\n\ndef test_that_fails():\n    assert False\n"


@pytest.fixture
def colcon(tmp_path):
    """colcon in a workspace with the build files of two packages, one of each kind, and with other tests."""
    for package in ("serl_config", "serl_bringup"):
        source, folder = ROOT / "src" / package, tmp_path / "src" / package
        (folder / "test").mkdir(parents=True)
        (folder / "test/test_it.py").write_text(TESTS)
        for name in (
            "package.xml",
            "setup.py",
            "setup.cfg",
            "CMakeLists.txt",
            f"resource/{package}",
            f"{package}/__init__.py",
        ):
            if (source / name).exists():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copy(source / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # pytest's settings
    for name in ("launch", "config", "urdf"):
        (tmp_path / "src/serl_bringup" / name / "deep").mkdir(parents=True)
        for file in ("deep/file", ".gitkeep", "deep/.file.swp"):
            (tmp_path / "src/serl_bringup" / name / file).touch()

    def run(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("colcon"), "--log-base", "log", verb, *arguments]
        environment = os.environ | {"COLCON_DEFAULTS_FILE": os.devnull}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    return run


@pytest.mark.parametrize("options", [(), ("--symlink-install",)], ids=["copied", "linked"])
def test_the_tests_run_and_hidden_files_are_not_installed(colcon, tmp_path, options):
    built = colcon("build", *options)
    assert built.returncode == 0, built.stderr
    share = tmp_path / "install/serl_bringup/share/serl_bringup"
    for name in ("launch", "config", "urdf"):
        assert [path.name for path in (share / name).rglob("*") if not path.is_dir()] == ["file"]
    colcon("test")
    results = colcon("test-result", "--all")
    assert results.returncode == 1
    assert any(
        "build/serl_config/" in line and line.endswith("pytest.xml: 2 tests, 0 errors, 1 failure, 0 skipped")
        for line in results.stdout.splitlines()
    ), results.stdout
