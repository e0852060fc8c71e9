# SPDX-License-Identifier: Apache-2.0
"""DDS is secured where it can be, and refused by name where it cannot."""

from pathlib import Path

import pytest
from dds_documents import enclave

pytest.importorskip("cryptography", reason="./serl setup link")
from serl_security.certificates import KeysError
from serl_security.keystore import Keystore, make_keystore
from serl_security.permissions import Reach
from serl_security.secure import missing_plugins, secure_environment

ARM, ACTOR = enclave("/arm", publish=("target_pose",)), enclave("/actor", publish=("policy/action",))


def library(folder: Path, content: bytes, name: str = "libfastrtps.so") -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return make_keystore(tmp_path / "store", [ARM, ACTOR], Reach((30,)), days=30)


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


def test_nodes_are_told_to_take_the_keystore_or_not_to_start(keystore: Keystore) -> None:
    assert secure_environment(keystore.folder, 30, [ARM, ACTOR], ["/actor"]) == {
        "ROS_SECURITY_KEYSTORE": str(keystore.folder),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }


def test_a_keystore_that_does_not_fit_is_refused(keystore: Keystore, tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="ROS domain 31, found one of 30"):
        secure_environment(keystore.folder, 31, [ARM, ACTOR], ["/arm"])
    with pytest.raises(KeysError, match="expected enclaves /learner, "):
        secure_environment(keystore.folder, 30, [ARM, ACTOR], ["/arm", "/learner"])
    with pytest.raises(KeysError, match="expected a keystore"):
        secure_environment(tmp_path, 30, [ARM], ["/arm"])
    (keystore.folder / "enclaves/arm/permissions.xml").write_text("other")
    with pytest.raises(KeysError, match=r"is not the text of permissions\.p7s.*security check"):
        secure_environment(keystore.folder, 30, [ARM, ACTOR], ["/actor"])
