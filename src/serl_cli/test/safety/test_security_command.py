# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from serl_cli.app import main


def test_a_folder_of_keys_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    missing = tmp_path / "no such folder"
    assert main(["security", "check", str(missing)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(str(missing))
    assert "./serl security init" in lines[0]


def test_each_side_of_keys_is_named_where_one_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    assert main(["security", "init", str(tmp_path / "keys"), "--learner", "localhost"]) == 0
    capsys.readouterr()
    (tmp_path / "keys/robot").rename(tmp_path / "carried away")
    assert main(["security", "check", str(tmp_path / "keys")]) == 1
    robot, learner = capsys.readouterr().out.splitlines()
    assert "keys/robot/" in robot
    assert "serves as localhost" in learner
