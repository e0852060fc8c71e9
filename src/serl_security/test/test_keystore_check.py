# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a keystore is named, each thing by a line."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dds_documents import enclave

pytest.importorskip("cryptography", reason="./serl setup link")
from serl_security.keystore import Keystore, make_keystore
from serl_security.keystore_check import ends, problems
from serl_security.permissions import Reach

NOW = datetime.now(UTC).replace(microsecond=0)
ARM, ACTOR = enclave("/arm", publish=("target_pose",)), enclave("/actor", publish=("policy/action",))


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return make_keystore(tmp_path / "store", [ARM, ACTOR], Reach((30,)), days=30, now=NOW)


def test_nothing_is_wrong_with_a_new_one_nor_without_what_stays_elsewhere(keystore: Keystore) -> None:
    assert list(problems(keystore, [ARM, ACTOR])) == []
    assert ends(keystore) == NOW + timedelta(days=30)
    for path in (keystore.folder / "private").iterdir():
        path.unlink()
    assert list(problems(keystore, [ARM, ACTOR, enclave("/learner")])) == []


def test_an_expired_one_is_told_of_each_enclave(keystore: Keystore) -> None:
    late = list(problems(keystore, [ARM, ACTOR], now=NOW + timedelta(days=31)))
    assert len(late) == 2
    assert all("has expired" in line for line in late)


def test_what_differs_from_the_policy_is_named(keystore: Keystore) -> None:
    more = enclave("/arm", publish=("target_pose", "more"))
    (line,) = problems(keystore, [more, ACTOR])
    assert "arm/permissions.p7s: differs from the policy" in line
    (line,) = problems(keystore, [ARM])
    assert "the policy has no enclave /actor" in line


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("permissions.p7s", "its text is not what was signed"),
        ("permissions.xml", "is not the text of permissions.p7s"),
        ("governance.p7s", "expected text with a signature"),
        ("key.pem", "expected the key of cert.pem"),
        ("cert.pem", "expected a certificate"),
        ("identity_ca.cert.pem", "expected the authority of"),
    ],
)
def test_what_was_changed_is_named(keystore: Keystore, file: str, said: str) -> None:
    own = keystore.folder / "enclaves/arm"
    path = own / file
    other = {"key.pem": "../actor/key.pem", "identity_ca.cert.pem": "permissions_ca.cert.pem"}
    if file in other:
        path.write_bytes((own / other[file]).read_bytes())
    elif file.startswith("permissions"):
        path.write_bytes(path.read_bytes().replace(b"target_pose", b"target_nose"))
    else:
        path.write_bytes(b"something")
    found = list(problems(keystore, [ARM, ACTOR]))
    assert any(f"arm/{file}: {said}" in line for line in found)
    assert not any("\n" in line or "enclaves/actor" in line for line in found)


def test_a_key_that_others_can_read_is_named(keystore: Keystore) -> None:
    (keystore.folder / "private/identity_ca.key.pem").chmod(0o644)
    (line,) = problems(keystore, [ARM, ACTOR])
    assert "identity_ca.key.pem: expected a key that its owner alone may read" in line


def test_an_enclave_of_another_keystore_is_named(keystore: Keystore, tmp_path: Path) -> None:
    other = make_keystore(tmp_path / "other", [ARM, ACTOR], Reach((30,)), days=30, now=NOW)
    own = keystore.folder / "enclaves/arm"
    shutil.rmtree(own)
    shutil.copytree(other.folder / "enclaves/arm", own)
    found = list(problems(keystore, [ARM, ACTOR]))
    for authority in ("identity_ca", "permissions_ca"):
        assert any(f"arm/{authority}.cert.pem: expected the authority of" in line for line in found)
    assert not any("enclaves/actor" in line for line in found)


def test_a_folder_that_is_no_enclave_hides_nothing_else(keystore: Keystore) -> None:
    shutil.copytree(keystore.folder / "enclaves/arm", keystore.folder / "enclaves/foo-bar")
    (keystore.folder / "enclaves/actor/key.pem").chmod(0o644)
    found = list(problems(keystore, [ARM, ACTOR]))
    assert any("foo-bar: the policy has no enclave /foo-bar" in line for line in found)
    assert any("actor/key.pem: expected a key that its owner alone may read" in line for line in found)
