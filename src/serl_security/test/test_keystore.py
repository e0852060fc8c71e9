# SPDX-License-Identifier: Apache-2.0
"""A keystore as a native ROS 2 loads it: what is in it, and that another implementation believes its signatures."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dds_documents import enclave, governance_of, grant_of

pytest.importorskip("cryptography", reason="./serl setup link")
from cryptography.x509 import load_pem_x509_certificate
from serl_security.certificates import KeysError
from serl_security.keystore import make_keystore, open_keystore
from serl_security.permissions import Reach, allowed_topics
from serl_security.policy import Enclave
from serl_security.signed_files import read_signed

NOW = datetime.now(UTC).replace(microsecond=0)
ARM = enclave(
    "/arm_controller",
    publish=("target_pose", "/rosout"),
    subscribe=("policy/action",),
    reply=("arm/estop", "arm_controller/get_parameters"),
    execute=("arm/move_to",),
)
ACTOR = enclave("/actor", publish=("policy/action",), request=("arm/estop",), call=("arm/move_to",))
REACH = Reach((30, 31), ("", "left"))
FILES = {
    *("cert.pem", "key.pem", "governance.p7s", "permissions.p7s", "permissions.xml"),
    *("identity_ca.cert.pem", "permissions_ca.cert.pem"),
}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keystore") / "store"
    make_keystore(folder, [ARM, ACTOR], REACH, days=30, now=NOW)
    return folder


def openssl(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=60, check=False)


def test_files_are_where_ros_looks_for_them_and_nobody_else_can_read_them(made: Path) -> None:
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert files == {
        *(".gitignore", "serl.json", "enclaves/governance.xml", "enclaves/governance.p7s"),
        *(f"public/{name}_ca.cert.pem" for name in ("identity", "permissions")),
        *(f"private/{name}_ca.key.pem" for name in ("identity", "permissions")),
        *(f"enclaves/{name}/{file}" for name in ("arm_controller", "actor") for file in FILES),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made, *made.rglob("*")))
    assert {path.name for path in made.parent.iterdir()} == {"store"}
    keystore = open_keystore(made)
    assert keystore.enclaves == ("/actor", "/arm_controller")
    assert keystore.reach == REACH


@needs_openssl
def test_openssl_believes_certificates_and_signatures_of_the_right_authority_alone(made: Path) -> None:
    own, public = made / "enclaves/actor", made / "public"
    strict = ("verify", "-x509_strict", "-CAfile")
    assert openssl(*strict, public / "identity_ca.cert.pem", own / "cert.pem").returncode == 0
    assert openssl(*strict, public / "permissions_ca.cert.pem", own / "cert.pem").returncode != 0
    for signed, text in (
        ("permissions.p7s", own / "permissions.xml"),
        ("governance.p7s", made / "enclaves/governance.xml"),
    ):
        checked = ("smime", "-verify", "-text", "-in", own / signed, "-CAfile")
        found = openssl(*checked, public / "permissions_ca.cert.pem")
        assert found.returncode == 0, found.stderr
        assert found.stdout.replace(b"\r\n", b"\n") == text.read_bytes()
        assert openssl(*checked, public / "identity_ca.cert.pem").returncode != 0


@needs_openssl
def test_a_file_that_openssl_has_signed_is_read_and_a_changed_one_is_not(made: Path, tmp_path: Path) -> None:
    certificate = made / "public/permissions_ca.cert.pem"
    authority = load_pem_x509_certificate(certificate.read_bytes())
    (tmp_path / "text").write_bytes(b"<dds/>\n")
    signs = ("smime", "-sign", "-text", "-in", tmp_path / "text", "-out", tmp_path / "signed", "-signer", certificate)
    assert openssl(*signs, "-inkey", made / "private/permissions_ca.key.pem").returncode == 0
    assert read_signed(tmp_path / "signed", authority) == b"<dds/>\n"
    bare = [tmp_path / "bare" if each == tmp_path / "signed" else each for each in signs]
    assert openssl(*bare, "-noattr", "-inkey", made / "private/permissions_ca.key.pem").returncode == 0
    with pytest.raises(KeysError, match="bare: expected text with a signature"):
        read_signed(tmp_path / "bare", authority)
    (tmp_path / "changed").write_bytes((tmp_path / "signed").read_bytes().replace(b"<dds/>", b"<dDs/>"))
    with pytest.raises(KeysError, match="its text is not what was signed"):
        read_signed(tmp_path / "changed", authority)
    other = load_pem_x509_certificate((made / "public/identity_ca.cert.pem").read_bytes())
    with pytest.raises(KeysError, match="not signed by the authority"):
        read_signed(tmp_path / "signed", other)
    for cut in range(0, len((tmp_path / "signed").read_bytes()), 97):
        (tmp_path / "cut").write_bytes((tmp_path / "signed").read_bytes()[:cut])
        with pytest.raises(KeysError, match="cut: "):
            read_signed(tmp_path / "cut", authority)


def test_permissions_are_as_dds_security_describes_them_and_hold_in_every_time_zone(made: Path) -> None:
    own = made / "enclaves/actor"
    grant = grant_of((own / "permissions.xml").read_bytes())
    certificate = load_pem_x509_certificate((own / "cert.pem").read_bytes())
    assert grant.subject == certificate.subject.rfc4514_string() == "CN=/actor"
    # Fast DDS 2 reads these times as those of its time zone; the certificate says how long a node may take part.
    assert grant.begins <= certificate.not_valid_before_utc - timedelta(hours=14)
    assert grant.ends >= certificate.not_valid_after_utc + timedelta(hours=14)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    assert grant.domains == {30, 31}
    assert grant.default == "DENY"
    assert "rt/left/policy/action" in grant.publish
    assert "rt/target_pose" not in grant.publish | grant.subscribe


def test_a_domain_takes_nobody_unknown_and_nothing_unprotected(made: Path) -> None:
    domains, participant, topics = governance_of((made / "enclaves/governance.xml").read_bytes())
    assert domains == {30, 31}
    assert participant["allow_unauthenticated_participants"] == "false"
    assert participant["enable_join_access_control"] == "true"
    assert {participant[f"{what}_protection_kind"] for what in ("discovery", "liveliness")} == {"ENCRYPT"}
    assert participant["rtps_protection_kind"] == "SIGN"
    assert topics.pop("topic_expression") == "*"
    assert set(topics.values()) == {"true", "ENCRYPT"}


def test_names_become_the_topics_of_dds_and_who_offers_is_told_from_who_calls() -> None:
    written, read = map(set, allowed_topics(ARM, ["", "left"]))
    assert {"rt/target_pose", "rt/left/target_pose", "rt/rosout", "rr/left/arm/estopReply"} <= written
    assert {"rr/arm_controller/get_parametersReply", "rr/left/arm_controller/get_parametersReply"} <= written
    assert "rt/left/rosout" not in written
    action = "/left/arm/move_to/_action/"
    offered = {f"rr{action}{name}Reply" for name in ("send_goal", "get_result", "cancel_goal")}
    offered |= {f"rt{action}feedback", f"rt{action}status"}
    asked = {f"rq{action}{name}Request" for name in ("send_goal", "get_result", "cancel_goal")}
    assert offered <= written
    assert asked <= read
    called, heard = map(set, allowed_topics(ACTOR, ["left"]))
    assert called == asked | {"rt/left/policy/action", "rq/left/arm/estopRequest", "ros_discovery_info"}
    assert heard == offered | {"rr/left/arm/estopReply", "ros_discovery_info"}


def test_renewed_certificates_are_of_the_same_authorities(made: Path, tmp_path: Path) -> None:
    later = NOW + timedelta(days=29)
    make_keystore(tmp_path / "new", [ACTOR], REACH, days=60, now=later, authorities=open_keystore(made))
    for name in ("identity", "permissions"):
        assert (tmp_path / f"new/public/{name}_ca.cert.pem").read_bytes() == (
            made / f"public/{name}_ca.cert.pem"
        ).read_bytes()
    renewed = load_pem_x509_certificate((tmp_path / "new/enclaves/actor/cert.pem").read_bytes())
    assert renewed.not_valid_after_utc == later + timedelta(days=60)
    with pytest.raises(KeysError, match=r"ends on .*, before what it would sign"):
        late = NOW + timedelta(days=3600)
        make_keystore(tmp_path / "late", [ACTOR], REACH, days=60, now=late, authorities=open_keystore(made))
    assert not (tmp_path / "late").exists()


def test_a_policy_of_ones_own_goes_with_the_keystore(tmp_path: Path) -> None:
    made = make_keystore(tmp_path / "store", [ARM, ACTOR], REACH, own_policy=True)
    assert open_keystore(tmp_path / "store") == made
    assert made.policy == (ARM, ACTOR)
    copy = tmp_path / "store/policy.json"
    for text in ("{}", "[[]]", '[{"path": "/arm"}]', copy.read_text().replace('"target_pose"', "7"), "[", '["a"]'):
        copy.write_text(text)
        with pytest.raises(KeysError, match=r"policy\.json: expected enclaves, each with path, nodes"):
            open_keystore(tmp_path / "store")


def test_nothing_is_written_over_and_nothing_half_is_left(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with pytest.raises(KeysError, match="nothing is written over"):
        make_keystore(made, [ACTOR], REACH)
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}

    def full(*_: object) -> tuple[bytes, bytes]:
        raise OSError("disk full")

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("serl_security.certificates.Authority.issue", full)
    with pytest.raises(OSError, match="disk full"):
        make_keystore(tmp_path / "empty", [ACTOR], REACH)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("enclaves", "said"),
    [
        ([enclave("/../up")], "expected a path as /arm_controller"),
        ([enclave("/")], "expected a path as /arm_controller"),
        ([enclave("/a", publish=("two words",))], "enclave /a: expected the name of a topic"),
        ([enclave("/a"), enclave("/a")], "each once, found /a, /a"),
        ([], "expected some"),
    ],
)
def test_what_is_no_enclave_is_refused(tmp_path: Path, enclaves: list[Enclave], said: str) -> None:
    with pytest.raises(KeysError, match=said):
        make_keystore(tmp_path / "store", enclaves, REACH)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("domains", "namespaces", "said"),
    [((), ("",), "none"), ((233,), ("",), "233"), ((0,), ("a b",), "a b"), ((0,), (), "")],
)
def test_what_is_no_domain_or_namespace_is_refused(domains: tuple[int], namespaces: tuple[str], said: str) -> None:
    with pytest.raises(KeysError, match=f"expected .*found .*{said}"):
        Reach(domains, namespaces)
