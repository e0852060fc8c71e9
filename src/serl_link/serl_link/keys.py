# SPDX-License-Identifier: Apache-2.0
"""Keys of a run: an authority of its own, and a key with a certificate for each of its two sides.

A side's folder is all that its machine needs. The learner's certificate serves and names where the learner is reached;
the robot's connects. Neither can take the other's part, whoever holds it.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from serl_config.files import FileError, read_bytes
from serl_config.optional import optional_module

SIDES = ("robot", "learner")
"""Sides of a run, each with a folder of keys."""

AUTHORITY, CERTIFICATE, KEY = "authority.crt", "host.crt", "host.key"
"""Files in the folder of a side: the authority's certificate, its own, and its secret key."""

AUTHORITY_KEY = "authority.key"
"""File in the folder of a run's keys, which stays where they were made."""

_MOST_BYTES = 65_536  # of a file of keys
_MOST_DAYS = 3650
_SLACK = timedelta(minutes=5)  # clocks of the two machines differ
_SOON = timedelta(days=14)


class KeysError(ValueError):
    """Keys cannot be made or used: says which file, what was expected, and what was found."""


@dataclass(frozen=True)
class Keys:
    """The folder of a side, whose files belong together and hold now."""

    folder: Path
    side: str
    """Which of `SIDES`."""
    names: tuple[str, ...]
    """Names and addresses that the certificate holds for."""
    authority: str
    """Fingerprint of the authority, the first 16 hexadecimal digits of its SHA-256."""
    issuer: str
    """Name of the authority."""
    ends: datetime
    """When the certificate expires."""

    @property
    def authority_file(self) -> Path:
        """The authority's certificate."""
        return self.folder / AUTHORITY

    @property
    def certificate_file(self) -> Path:
        """This side's certificate."""
        return self.folder / CERTIFICATE

    @property
    def key_file(self) -> Path:
        """This side's secret key."""
        return self.folder / KEY

    @property
    def soon(self) -> str:
        """What to say where the certificate expires within two weeks; else empty."""
        left = self.ends - datetime.now(UTC)
        return f"{self.certificate_file} expires on {self.ends:%Y-%m-%d}" if left < _SOON else ""


def make_keys(folder: Path, learner: Sequence[str], *, days: int = 365, now: datetime | None = None) -> list[Path]:
    """Make the keys of a run: an authority, and a folder for each side.

    Args:
        folder: new, or empty.
        learner: names and addresses at which the robot reaches the learner's machine.
        days: for which they hold.
        now: from when on; None: from this moment.

    Returns:
        The folders of the two sides.

    Raises:
        KeysError: there are files already, a name is none, or `cryptography` is not installed.
        OSError: the files cannot be written.
    """
    x509 = _library().x509
    if not 1 <= days <= _MOST_DAYS:
        raise KeysError(f"days: expected 1 to {_MOST_DAYS}, found {days}")
    if not learner:
        raise KeysError("learner: expected a name or address of its machine, found none")
    served = [_general_name(name) for name in learner]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KeysError(f"{folder}: expected a new or empty folder for keys, found files; nothing is written over")
    begins = (now or datetime.now(UTC)) - _SLACK
    ends = begins + _SLACK + timedelta(days=days)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    _write(folder / ".gitignore", b"*\n")  # keys are not committed by mistake
    authority = _Authority(begins, ends)
    _write(folder / AUTHORITY_KEY, authority.key_pem)
    for side in SIDES:
        names = served if side == "learner" else [x509.DNSName("robot")]
        key, certificate = authority.issue(side, names)
        (folder / side).mkdir(mode=0o700)
        _write(folder / side / AUTHORITY, authority.pem)
        _write(folder / side / CERTIFICATE, certificate)
        _write(folder / side / KEY, key)
    return [folder / side for side in SIDES]


def read_keys(folder: Path, side: str, *, now: datetime | None = None) -> Keys:
    """Read the keys of a side, and look whether they belong together and hold.

    Args:
        folder: of the side, as `make_keys` wrote it.
        side: that the keys must be of.
        now: the time at which they must hold; None: this moment.

    Raises:
        KeysError: a file is missing, damaged, of another side or authority, expired, or readable by others.
    """
    keys = inspect_keys(folder, now=now)
    if keys.side != side:
        raise KeysError(f"{keys.certificate_file}: expected keys of the side {side}, found those of {keys.side}")
    return keys


def inspect_keys(folder: Path, *, now: datetime | None = None) -> Keys:
    """Read the keys of whichever side a folder holds, and look whether they belong together and hold.

    Args:
        folder: of a side, as `make_keys` wrote it.
        now: the time at which they must hold; None: this moment.

    Raises:
        KeysError: a file is missing, damaged, of another authority, expired, or readable by others.
    """
    moment = now or datetime.now(UTC)
    authority = _certificate(folder / AUTHORITY)
    certificate = _certificate(folder / CERTIFICATE)
    key = _private_key(folder / KEY)
    if _public(key) != _public(certificate):
        raise KeysError(f"{folder / KEY}: expected the key of {CERTIFICATE}, found another one")
    for file, what in ((AUTHORITY, authority), (CERTIFICATE, certificate)):
        if not what.not_valid_before_utc <= moment <= what.not_valid_after_utc:
            holds = f"{what.not_valid_before_utc:%Y-%m-%d %H:%M} to {what.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            expired = "has expired" if moment > what.not_valid_after_utc else "does not hold yet"
            raise KeysError(f"{folder / file}: {expired}: it holds {holds}, and it is {moment:%Y-%m-%d %H:%M}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, _library().exceptions.InvalidSignature) as error:
        raise KeysError(
            f"{folder / CERTIFICATE}: expected a certificate by the authority of {AUTHORITY} "
            f"({_common_name(authority)}), found one by {_issuer(certificate)}"
        ) from error
    return Keys(
        folder=folder,
        side=_side(certificate, folder / CERTIFICATE),
        names=_names(certificate),
        authority=_fingerprint(authority),
        issuer=_common_name(authority),
        ends=min(certificate.not_valid_after_utc, authority.not_valid_after_utc),
    )


class _Authority:
    """Signs the certificates of a run."""

    def __init__(self, begins: datetime, ends: datetime) -> None:
        x509 = _library().x509
        self._begins, self._ends = begins, ends
        self._key = _new_key()
        self._name = _name(f"SERL run {begins:%Y-%m-%d} {secrets.token_hex(4)}")
        usage = dict.fromkeys(_USES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = self._builder(self._name, self._key).add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.sign(self._key, _library().hashes.SHA256())
        self.pem, self.key_pem = _pem(self._certificate), _key_pem(self._key)

    def issue(self, side: str, names: Sequence[Any]) -> tuple[bytes, bytes]:
        """A key and its certificate, as PEM."""
        x509, key = _library().x509, _new_key()
        purpose = _purposes()[side]
        usage = dict.fromkeys(_USES, False) | {"digital_signature": True}
        builder = self._builder(_name(side), key).add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _key_pem(key), _pem(builder.sign(self._key, _library().hashes.SHA256()))

    def _builder(self, subject: Any, key: Any) -> Any:
        x509 = _library().x509
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(self._begins).not_valid_after(self._ends)


_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _write(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _MOST_BYTES)
    except FileError as error:
        made = "" if path.exists() else "; ./serl security init makes keys, and --help says which folder goes where"
        raise KeysError(f"{error}{made}") from error


def _certificate(path: Path) -> Any:
    try:
        return _library().x509.load_pem_x509_certificate(_read(path))
    except KeysError:
        raise
    except ValueError as error:
        raise KeysError(f"{path}: expected a certificate as PEM, found something else") from error


def _private_key(path: Path) -> Any:
    data = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeysError(f"{path}: expected a key that its owner alone may read; chmod 600 {path}")
    try:
        return _library().pem.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, _library().exceptions.UnsupportedAlgorithm) as error:
        raise KeysError(f"{path}: expected a secret key as PEM, without a password, found something else") from error


def _side(certificate: Any, path: Path) -> str:
    try:
        purposes = list(certificate.extensions.get_extension_for_class(_library().x509.ExtendedKeyUsage).value)
    except (ValueError, _library().x509.ExtensionNotFound):
        purposes = []
    for side, purpose in _purposes().items():
        if purposes == [purpose]:
            return side
    raise KeysError(f"{path}: expected a certificate for one side (clientAuth or serverAuth), found another kind")


def _purposes() -> dict[str, Any]:
    """What the certificate of a side is for: the robot connects, the learner serves."""
    known = _library().oid.ExtendedKeyUsageOID
    return {"robot": known.CLIENT_AUTH, "learner": known.SERVER_AUTH}


def _name(text: str) -> Any:
    x509 = _library().x509
    return x509.Name([x509.NameAttribute(_library().oid.NameOID.COMMON_NAME, text)])


def _names(certificate: Any) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(_library().x509.SubjectAlternativeName).value
    except (ValueError, _library().x509.ExtensionNotFound):
        return ()
    return tuple(str(name.value) for name in names)


def _common_name(certificate: Any) -> str:
    found = certificate.subject.get_attributes_for_oid(_library().oid.NameOID.COMMON_NAME)
    return str(found[0].value) if found else certificate.subject.rfc4514_string()


def _issuer(certificate: Any) -> str:
    found = certificate.issuer.get_attributes_for_oid(_library().oid.NameOID.COMMON_NAME)
    return str(found[0].value) if found else certificate.issuer.rfc4514_string()


def _fingerprint(certificate: Any) -> str:
    return str(certificate.fingerprint(_library().hashes.SHA256()).hex()[:16])


def _general_name(name: str) -> Any:
    try:
        return _library().x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    fine = all(0 < len(label) < 64 and label.replace("-", "").isalnum() and label.isascii() for label in labels)
    if not fine or len(name) > 253:
        raise KeysError(f"learner: expected a host name or an address, found {name!r}")
    return _library().x509.DNSName(name)


def _new_key() -> Any:
    curves = _library().curves
    return curves.generate_private_key(curves.SECP256R1())


def _pem(certificate: Any) -> bytes:
    return bytes(certificate.public_bytes(_library().pem.Encoding.PEM))


def _key_pem(key: Any) -> bytes:
    of = _library().pem
    return bytes(key.private_bytes(of.Encoding.PEM, of.PrivateFormat.PKCS8, of.NoEncryption()))


def _public(holder: Any) -> bytes:
    of = _library().pem
    return bytes(holder.public_key().public_bytes(of.Encoding.DER, of.PublicFormat.SubjectPublicKeyInfo))


@cache
def _library() -> SimpleNamespace:
    """The parts of the package cryptography that are used, imported when something needs them."""
    parts = {
        "x509": "x509",
        "oid": "x509.oid",
        "curves": "hazmat.primitives.asymmetric.ec",
        "hashes": "hazmat.primitives.hashes",
        "pem": "hazmat.primitives.serialization",
        "exceptions": "exceptions",
    }
    return SimpleNamespace(
        **{
            name: optional_module(f"cryptography.{part}", extra="link", needed_by="keys of a run", error=KeysError)
            for name, part in parts.items()
        }
    )
