# SPDX-License-Identifier: Apache-2.0
"""Nodes are told to take a keystore that fits, and no other."""

from pathlib import Path

import pytest
from dds_documents import enclave

pytest.importorskip("cryptography", reason="./serl setup link")
from serl_security.certificates import KeysError
from serl_security.keystore import Keystore, make_keystore
from serl_security.permissions import Reach
from serl_security.secure import secure_environment

ARM, ACTOR = enclave("/arm", publish=("target_pose",)), enclave("/actor", publish=("policy/action",))


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return make_keystore(tmp_path / "store", [ARM, ACTOR], Reach((30,)), days=30)


def test_nodes_are_told_to_take_the_keystore_or_not_to_start(keystore: Keystore) -> None:
    assert secure_environment(keystore.folder, 30, [ARM, ACTOR], ["/actor"]) == {
        "ROS_SECURITY_KEYSTORE": str(keystore.folder),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }


def test_a_keystore_of_another_policy_is_held_to_that(tmp_path: Path) -> None:
    other = make_keystore(tmp_path / "other", [ARM], Reach((30,)), days=30, own_policy=True)
    assert secure_environment(other.folder, 30, [ACTOR], ["/arm"])["ROS_SECURITY_KEYSTORE"] == str(other.folder)
    (other.folder / "policy.json").unlink()
    with pytest.raises(KeysError, match="the policy has no enclave /arm"):
        secure_environment(other.folder, 30, [ACTOR], ["/arm"])


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
