# SPDX-License-Identifier: Apache-2.0
"""Keys of a run: what is made, and what is refused of what is found."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="./serl setup link")
from serl_link.keys import inspect_keys, make_keys, read_keys
from serl_security.certificates import KeysError

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["learner.example", "10.0.0.7"], days=30, now=NOW)
    return tmp_path / "keys"


def test_each_side_gets_what_it_needs_and_nobody_else_can_read_it(made: Path) -> None:
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    own = {"authority.crt", "host.crt", "host.key"}
    assert files == {
        "authority.key",
        ".gitignore",
        *(f"{side}/{name}" for side in ("robot", "learner") for name in own),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made, *made.rglob("*")))
    robot, learner = read_keys(made / "robot", "robot", now=NOW), read_keys(made / "learner", "learner", now=NOW)
    assert learner.names == ("learner.example", "10.0.0.7")
    assert robot.authority == learner.authority
    assert learner.ends == NOW + timedelta(days=30)
    assert (made / "robot/host.key").read_bytes() != (made / "learner/host.key").read_bytes()


def test_openssl_takes_each_certificate_for_its_side_alone(made: Path) -> None:
    """Another implementation than the one that made them."""
    import ssl

    for side, purpose in (("learner", ssl.PROTOCOL_TLS_SERVER), ("robot", ssl.PROTOCOL_TLS_CLIENT)):
        context = ssl.SSLContext(purpose)
        context.load_verify_locations(made / side / "authority.crt")
        context.load_cert_chain(made / side / "host.crt", made / side / "host.key")
        assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}


def test_nothing_is_written_over(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with pytest.raises(KeysError, match="expected a new or empty folder"):
        make_keys(made, ["learner.example"])
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["", "two words", "a..b", "-" * 64, "http://host", "host:7447"])
def test_what_is_no_name_of_a_machine_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="expected a host name or an address"):
        make_keys(tmp_path / "keys", [name])
    assert not (tmp_path / "keys").exists()


def test_expired_keys_are_refused_with_their_dates(made: Path) -> None:
    with pytest.raises(KeysError, match=r"has expired: it holds 2026-11-30 23:55 to 2026-12-31 00:00 UTC"):
        inspect_keys(made / "robot", now=NOW + timedelta(days=31))
    with pytest.raises(KeysError, match="does not hold yet"):
        inspect_keys(made / "robot", now=NOW - timedelta(days=1))


def test_keys_of_the_other_side_or_of_another_run_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="expected keys of the side robot, found those of learner"):
        read_keys(made / "learner", "robot", now=NOW)
    make_keys(tmp_path / "others", ["learner.example"], days=30, now=NOW)
    shutil.copy(tmp_path / "others/robot/authority.crt", made / "robot/authority.crt")
    with pytest.raises(KeysError, match=r"expected a certificate by the authority of authority.crt \(SERL run "):
        inspect_keys(made / "robot", now=NOW)
    shutil.copy(made / "learner/authority.crt", made / "robot/authority.crt")
    shutil.copy(tmp_path / "others/robot/host.key", made / "robot/host.key")
    with pytest.raises(KeysError, match=r"expected the key of host\.crt, found another one"):
        inspect_keys(made / "robot", now=NOW)


@pytest.mark.parametrize("file", ["authority.crt", "host.crt", "host.key"])
@pytest.mark.parametrize(
    "content", [None, b"", b"\0" * 1000, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_files_that_are_missing_or_damaged_are_named(made: Path, file: str, content: bytes | None) -> None:
    path = made / "robot" / file
    path.unlink()
    if content is not None:
        path.touch(mode=0o600)
        path.write_bytes(content)
    with pytest.raises(KeysError) as found:
        inspect_keys(made / "robot", now=NOW)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_a_key_that_others_can_read_is_refused(made: Path) -> None:
    (made / "robot/host.key").chmod(0o644)
    with pytest.raises(KeysError, match="chmod 600"):
        inspect_keys(made / "robot", now=NOW)
