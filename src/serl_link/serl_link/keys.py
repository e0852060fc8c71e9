# SPDX-License-Identifier: Apache-2.0
"""Keys of a run: an authority of its own, and a key with a certificate for each of its two sides.

A side's folder is all that its machine needs. The learner's certificate serves and names where the learner is reached;
the robot's connects. Neither can take the other's part, whoever holds it.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from serl_security.certificates import (
    SLACK,
    Authority,
    KeysError,
    check_days,
    common_name,
    fingerprint,
    library,
    new_folder,
    public,
    read_certificate,
    read_private_key,
    refuse_expired,
    refuse_foreign,
    write_own,
)

SIDES = ("robot", "learner")
"""Sides of a run, each with a folder of keys."""

AUTHORITY, CERTIFICATE, KEY = "authority.crt", "host.crt", "host.key"
"""Files in the folder of a side: the authority's certificate, its own, and its secret key."""

AUTHORITY_KEY = "authority.key"
"""File in the folder of a run's keys, which stays where they were made."""

_SOON = timedelta(days=14)


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
    x509 = library().x509
    holds = check_days(days)
    if not learner:
        raise KeysError("learner: expected a name or address of its machine, found none")
    served = [_general_name(name) for name in learner]
    moment = now or datetime.now(UTC)
    begins, ends = moment - SLACK, moment + holds
    with new_folder(folder) as made:
        write_own(made / ".gitignore", b"*\n")  # keys are not committed by mistake
        authority = Authority.new(f"SERL run {begins:%Y-%m-%d} {secrets.token_hex(4)}", begins, ends)
        write_own(made / AUTHORITY_KEY, authority.key_pem)
        for side in SIDES:
            names = served if side == "learner" else [x509.DNSName("robot")]
            extensions = [x509.ExtendedKeyUsage([_purposes()[side]]), x509.SubjectAlternativeName(names)]
            key, certificate = authority.issue(side, begins, ends, extensions)
            (made / side).mkdir(mode=0o700)
            write_own(made / side / AUTHORITY, authority.pem)
            write_own(made / side / CERTIFICATE, certificate)
            write_own(made / side / KEY, key)
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
    authority = read_certificate(folder / AUTHORITY)
    certificate = read_certificate(folder / CERTIFICATE)
    key = read_private_key(folder / KEY)
    if public(key) != public(certificate):
        raise KeysError(f"{folder / KEY}: expected the key of {CERTIFICATE}, found another one")
    refuse_expired(folder / AUTHORITY, authority, moment)
    refuse_expired(folder / CERTIFICATE, certificate, moment)
    refuse_foreign(folder / CERTIFICATE, certificate, authority, AUTHORITY)
    return Keys(
        folder=folder,
        side=_side(certificate, folder / CERTIFICATE),
        names=_names(certificate),
        authority=fingerprint(authority),
        issuer=common_name(authority),
        ends=min(certificate.not_valid_after_utc, authority.not_valid_after_utc),
    )


def _side(certificate: Any, path: Path) -> str:
    try:
        purposes = list(certificate.extensions.get_extension_for_class(library().x509.ExtendedKeyUsage).value)
    except (ValueError, library().x509.ExtensionNotFound):
        purposes = []
    for side, purpose in _purposes().items():
        if purposes == [purpose]:
            return side
    raise KeysError(f"{path}: expected a certificate for one side (clientAuth or serverAuth), found another kind")


def _purposes() -> dict[str, Any]:
    """What the certificate of a side is for: the robot connects, the learner serves."""
    known = library().oid.ExtendedKeyUsageOID
    return {"robot": known.CLIENT_AUTH, "learner": known.SERVER_AUTH}


def _names(certificate: Any) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(library().x509.SubjectAlternativeName).value
    except (ValueError, library().x509.ExtensionNotFound):
        return ()
    return tuple(str(name.value) for name in names)


def _general_name(name: str) -> Any:
    try:
        return library().x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    fine = all(0 < len(label) < 64 and label.replace("-", "").isalnum() and label.isascii() for label in labels)
    if not fine or len(name) > 253:
        raise KeysError(f"learner: expected a host name or an address, found {name!r}")
    return library().x509.DNSName(name)
