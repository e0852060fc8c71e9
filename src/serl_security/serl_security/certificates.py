# SPDX-License-Identifier: Apache-2.0
"""Authorities, certificates and secret keys as files, by the package cryptography, imported when it is needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from serl_config.atomic_files import remove_leftovers, sync_directory
from serl_config.files import FileError, read_bytes
from serl_config.optional import optional_module

MOST_DAYS = 3650
"""[days] for which keys hold at most."""

SLACK = timedelta(minutes=5)
"""Time that keys hold before they were made, as clocks of two machines differ."""

_MOST_BYTES = 4 * 2**20  # of a file of keys or permissions
_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


class KeysError(ValueError):
    """Keys cannot be made or used: says which file, what was expected, and what was found."""


class Authority:
    """Signs certificates; its own is signed by itself."""

    def __init__(self, certificate: Any, key: Any) -> None:
        """Takes what `new` or `read` found.

        Args:
            certificate: of the authority.
            key: its secret key.
        """
        self.certificate, self.key = certificate, key

    @classmethod
    def new(cls, name: str, begins: datetime, ends: datetime, *, signs_files: bool = False) -> Authority:
        """Make one.

        Args:
            name: its common name.
            begins: from when on it holds.
            ends: until when.
            signs_files: whether it signs files, beside certificates.
        """
        x509, key = library().x509, new_key()
        usage = dict.fromkeys(_USES, False) | {
            "key_cert_sign": True,
            "crl_sign": True,
            "digital_signature": signs_files,
        }
        builder = _builder(common_name_of(name), common_name_of(name), key, begins, ends)
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(builder.sign(key, library().hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Authority:
        """Read one.

        Args:
            certificate: its file.
            key: file of its secret key.

        Raises:
            KeysError: a file is missing, damaged, or readable by others, or the two do not belong together.
        """
        own = cls(read_certificate(certificate), read_private_key(key))
        if public(own.key) != public(own.certificate):
            raise KeysError(f"{key}: expected the key of {certificate.name}, found another one")
        return own

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return certificate_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """Its secret key."""
        return secret_pem(self.key)

    def issue(self, name: str, begins: datetime, ends: datetime, extensions: Sequence[Any] = ()) -> tuple[bytes, bytes]:
        """A new key and its certificate, as PEM.

        Args:
            name: common name of who gets it.
            begins: from when on it holds.
            ends: until when.
            extensions: of the certificate, beyond its use for signatures.
        """
        x509, key = library().x509, new_key()
        usage = dict.fromkeys(_USES, False) | {"digital_signature": True}
        builder = _builder(common_name_of(name), self.certificate.subject, key, begins, ends)
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(above, critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return secret_pem(key), certificate_pem(builder.sign(self.key, library().hashes.SHA256()))


def refuse_expired(path: Path, certificate: Any, moment: datetime) -> None:
    """Raise KeysError unless a certificate holds at a moment.

    Args:
        path: of the certificate, for the message.
        certificate: that was read from there.
        moment: with a time zone.
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= moment <= ends:
        expired = "has expired" if moment > ends else "does not hold yet"
        holds = f"{begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
        raise KeysError(f"{path}: {expired}: it holds {holds}, and it is {moment:%Y-%m-%d %H:%M}")


def refuse_foreign(path: Path, certificate: Any, authority: Any, authority_name: str) -> None:
    """Raise KeysError unless a certificate is by an authority.

    Args:
        path: of the certificate, for the message.
        certificate: that was read from there.
        authority: certificate of the authority.
        authority_name: its file's name, for the message.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, library().exceptions.InvalidSignature) as error:
        raise KeysError(
            f"{path}: expected a certificate by the authority of {authority_name} "
            f"({common_name(authority)}), found one by {issuer_name(certificate)}"
        ) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that becomes `folder` as a whole when the block ends, or never.

    Args:
        folder: that is new, or empty.

    Raises:
        KeysError: there is something.
        OSError: it cannot be made.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise KeysError(f"{folder}: expected a new or empty folder for keys, found files; nothing is written over")
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent, f".{folder.name}.")
    temporary = parent / f".{folder.name}.{os.getpid()}"
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
        temporary.rename(folder.absolute())  # takes the place of an empty folder, and of no other
        sync_directory(parent)
    finally:
        remove_own(temporary)


def remove_own(folder: Path) -> None:
    """Remove a folder that this process made, if it is still there."""
    if folder.exists():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


def write_own(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_own(path: Path) -> bytes:
    """Bytes of a file of keys. Raises KeysError for one that is missing or cannot be read."""
    try:
        return read_bytes(path, _MOST_BYTES)
    except FileError as error:
        made = "" if path.exists() else "; ./serl security init makes keys, and --help says which folder goes where"
        raise KeysError(f"{error}{made}") from error


def read_certificate(path: Path) -> Any:
    """The certificate in a file. Raises KeysError where there is none."""
    try:
        return library().x509.load_pem_x509_certificate(read_own(path))
    except KeysError:
        raise
    except ValueError as error:
        raise KeysError(f"{path}: expected a certificate as PEM, found something else") from error


def read_private_key(path: Path) -> Any:
    """The secret key in a file. Raises KeysError where there is none, or others may read it."""
    data = read_own(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeysError(f"{path}: expected a key that its owner alone may read; chmod 600 {path}")
    try:
        return library().pem.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, library().exceptions.UnsupportedAlgorithm) as error:
        raise KeysError(f"{path}: expected a secret key as PEM, without a password, found something else") from error


def common_name(certificate: Any) -> str:
    """Whose a certificate is."""
    return _first_name(certificate.subject)


def issuer_name(certificate: Any) -> str:
    """Who has signed a certificate, as it says itself."""
    return _first_name(certificate.issuer)


def fingerprint(certificate: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a certificate."""
    return str(certificate.fingerprint(library().hashes.SHA256()).hex()[:16])


def common_name_of(text: str) -> Any:
    """A subject with this common name and nothing else."""
    x509 = library().x509
    return x509.Name([x509.NameAttribute(library().oid.NameOID.COMMON_NAME, text)])


def new_key() -> Any:
    """A secret key on the curve P-256, which DDS Security asks for."""
    curves = library().curves
    return curves.generate_private_key(curves.SECP256R1())


def certificate_pem(certificate: Any) -> bytes:
    """A certificate as PEM."""
    return bytes(certificate.public_bytes(library().pem.Encoding.PEM))


def secret_pem(key: Any) -> bytes:
    """A secret key as PEM, without a password."""
    of = library().pem
    return bytes(key.private_bytes(of.Encoding.PEM, of.PrivateFormat.PKCS8, of.NoEncryption()))


def public(holder: Any) -> bytes:
    """The public key of a secret key or of a certificate, to be compared."""
    of = library().pem
    return bytes(holder.public_key().public_bytes(of.Encoding.DER, of.PublicFormat.SubjectPublicKeyInfo))


def check_days(days: int) -> timedelta:
    """Time for which keys hold. Raises KeysError where that is less than a day or more than ten years."""
    if not 1 <= days <= MOST_DAYS:
        raise KeysError(f"days: expected 1 to {MOST_DAYS}, found {days}")
    return timedelta(days=days)


@cache
def library() -> SimpleNamespace:
    """The parts of the package cryptography that are used, imported when something needs them.

    Raises:
        KeysError: it is not installed; says what brings it.
    """
    parts = {
        "x509": "x509",
        "oid": "x509.oid",
        "curves": "hazmat.primitives.asymmetric.ec",
        "hashes": "hazmat.primitives.hashes",
        "pem": "hazmat.primitives.serialization",
        "pkcs7": "hazmat.primitives.serialization.pkcs7",
        "exceptions": "exceptions",
    }
    return SimpleNamespace(
        **{
            name: optional_module(f"cryptography.{part}", extra="link", needed_by="keys of a run", error=KeysError)
            for name, part in parts.items()
        }
    )


def _builder(subject: Any, issuer: Any, key: Any, begins: datetime, ends: datetime) -> Any:
    x509 = library().x509
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(begins).not_valid_after(ends)


def _first_name(name: Any) -> str:
    found = name.get_attributes_for_oid(library().oid.NameOID.COMMON_NAME)
    return str(found[0].value) if found else str(name.rfc4514_string())
