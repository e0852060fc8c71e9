# SPDX-License-Identifier: Apache-2.0
"""Libraries are looked at for the plug-ins that secure DDS, and for ROS 2 that uses them, and refused by name."""

from pathlib import Path

import pytest
from serl_security.plugins import missing_plugins

BINDING = "librmw_fastrtps_shared_cpp.so"


def library(folder: Path, content: bytes, name: str = "libfastrtps.so") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("before", [0, 2**20 - 13, 2**20 - 10, 2**20 + 1])  # across the end of a block, too
def test_plug_ins_are_found_wherever_they_are_named(tmp_path: Path, before: int) -> None:
    library(tmp_path / "lib", bytes(before) + b"DDS:Auth:PKI-DH" + bytes(5))
    library(tmp_path / "lib", b"couldn't find all security files!", BINDING)
    assert missing_plugins({}, tmp_path) is None


def test_a_library_without_them_is_named_with_what_works_instead(tmp_path: Path) -> None:
    path = library(tmp_path / "lib", b"DDS:Auth:PKI-D" + bytes(2**20))
    said = missing_plugins({}, tmp_path)
    assert said is not None
    assert said.startswith(f"{path}: ")
    assert "./serl security init" in said
    assert "link:=" in said


@pytest.mark.parametrize("content", [None, b"Please compile Fast DDS using the -DSECURITY=ON CMake option"])
def test_a_ros_2_that_does_not_use_them_is_named(tmp_path: Path, content: bytes | None) -> None:
    """It ends each node, with an error that names no file."""
    library(tmp_path / "lib", b"PKI-DH")
    if content is not None:
        library(tmp_path / "lib", content, BINDING)
    assert "expected rmw_fastrtps built with security" in (missing_plugins({}, tmp_path) or "")


def test_the_library_that_is_loaded_first_counts(tmp_path: Path) -> None:
    library(tmp_path / "lib", b"none")
    library(tmp_path / "lib", b"couldn't find all security files!", BINDING)
    library(tmp_path / "ros/lib", b"PKI-DH", "libfastdds.so")
    first = library(tmp_path / "own", b"none")
    ament = {"AMENT_PREFIX_PATH": f"{tmp_path / 'work'}:{tmp_path / 'ros'}"}
    assert missing_plugins(ament, tmp_path) is None
    assert str(first) in (missing_plugins(ament | {"LD_LIBRARY_PATH": str(first.parent)}, tmp_path) or "")


def test_no_library_and_another_middleware_are_refused(tmp_path: Path) -> None:
    assert f"in {tmp_path / 'lib'}, found none" in (missing_plugins({}, tmp_path) or "")
    assert "found rmw_zenoh_cpp" in (missing_plugins({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, tmp_path) or "")
