# SPDX-License-Identifier: Apache-2.0
"""A library of Fast DDS is looked at for the plug-ins that secure it, and refused by name where they are missing."""

from pathlib import Path

import pytest
from serl_security.plugins import missing_plugins


def library(folder: Path, content: bytes, name: str = "libfastrtps.so") -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("before", [0, 2**20 - 13, 2**20 - 10, 2**20 + 1])  # across the end of a block, too
def test_plug_ins_are_found_wherever_they_are_named(tmp_path: Path, before: int) -> None:
    library(tmp_path / "lib", bytes(before) + b"DDS:Auth:PKI-DH" + bytes(5))
    assert missing_plugins({}, tmp_path) is None


def test_a_library_without_them_is_named_with_what_works_instead(tmp_path: Path) -> None:
    path = library(tmp_path / "lib", b"DDS:Auth:PKI-D" + bytes(2**20))
    said = missing_plugins({}, tmp_path)
    assert said is not None
    assert said.startswith(f"{path}: ")
    assert "./serl security init" in said
    assert "link:=" in said


def test_the_library_that_is_loaded_first_counts(tmp_path: Path) -> None:
    library(tmp_path / "lib", b"none")
    library(tmp_path / "ros/lib", b"PKI-DH", "libfastdds.so")
    first = library(tmp_path / "own", b"none")
    ament = {"AMENT_PREFIX_PATH": f"{tmp_path / 'work'}:{tmp_path / 'ros'}"}
    assert missing_plugins(ament, tmp_path) is None
    assert str(first) in (missing_plugins(ament | {"LD_LIBRARY_PATH": str(first.parent)}, tmp_path) or "")


def test_no_library_and_another_middleware_are_refused(tmp_path: Path) -> None:
    assert f"in {tmp_path / 'lib'}, found neither" in (missing_plugins({}, tmp_path) or "")
    assert "found rmw_zenoh_cpp" in (missing_plugins({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, tmp_path) or "")
