# SPDX-License-Identifier: Apache-2.0
"""A keystore of SROS 2: what a native ROS 2 takes by ROS_SECURITY_KEYSTORE.

An authority says who somebody is, another one what they may do. Each enclave has a certificate of the first, and
permissions that the second has signed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from serl_config.strict_json import JsonError, parse_json

from serl_security.certificates import (
    MOST_DAYS,
    SLACK,
    Authority,
    KeysError,
    check_days,
    new_folder,
    read_certificate,
    read_own,
    write_own,
)
from serl_security.permissions import Reach, check_path, governance_xml, permissions_xml
from serl_security.policy import Enclave
from serl_security.signed_files import sign

PUBLIC, PRIVATE, ENCLAVES = "public", "private", "enclaves"
"""Folders of a keystore."""

IDENTITY, PERMISSIONS = "identity_ca", "permissions_ca"
"""Its authorities: `public/NAME.cert.pem`, and `private/NAME.key.pem`, which makes more."""

GOVERNANCE, GRANTED = "governance", "permissions"
"""Signed files of an enclave, `NAME.p7s`; `NAME.xml` is the text of it."""

REACH_FILE = "serl.json"
"""File of a keystore in which we remember where its permissions hold."""

POLICY_COPY = "policy.json"
"""File of a keystore with the policy that it was made of, where that is not the workspace's."""


@dataclass(frozen=True)
class Keystore:
    """A folder that `make_keystore` made."""

    folder: Path
    reach: Reach
    """Where its permissions hold."""
    policy: tuple[Enclave, ...] | None = None
    """What it was made of; None: the policy of the workspace."""

    @property
    def enclaves(self) -> tuple[str, ...]:
        """Paths of the enclaves that have a certificate or a key here, in order."""
        base = self.folder / ENCLAVES
        found = {path.parent for name in ("cert.pem", "key.pem") for path in base.glob(f"**/{name}")}
        return tuple(sorted(f"/{path.relative_to(base).as_posix()}" for path in found))

    def enclave_folder(self, path: str) -> Path:
        """Folder of an enclave. Raises KeysError for what is no path of one."""
        check_path(path)
        return self.folder / ENCLAVES / path[1:]

    def certificate_file(self, authority: str) -> Path:
        """Certificate of one of its authorities."""
        return self.folder / PUBLIC / f"{authority}.cert.pem"

    def authority(self, name: str) -> Authority:
        """One of its authorities, with the secret key, where that is here.

        Args:
            name: `IDENTITY` or `PERMISSIONS`.

        Raises:
            KeysError: it is not here, damaged, or readable by others.
        """
        return Authority.read(self.certificate_file(name), self.folder / PRIVATE / f"{name}.key.pem")


def is_keystore(folder: Path) -> bool:
    """Whether a folder looks like a keystore, whoever made it."""
    return (folder / ENCLAVES).is_dir() and (folder / PUBLIC).is_dir()


def open_keystore(folder: Path) -> Keystore:
    """What is known of a keystore of ours; its certificates are not looked at.

    Args:
        folder: of the keystore.

    Raises:
        KeysError: it is none, or was not made by `make_keystore`.
    """
    if not is_keystore(folder):
        raise KeysError(
            f"{folder}: expected a keystore with the folders {PUBLIC} and {ENCLAVES}, found none; "
            "./serl security init DIR --sros makes one"
        )
    path = folder / REACH_FILE
    try:
        values = parse_json(read_own(path).decode())
    except (JsonError, UnicodeDecodeError) as error:
        raise KeysError(f"{path}: expected domains and namespaces as JSON, found something else") from error
    match values:
        case {"domains": [*domains], "namespaces": [*namespaces]} if all(type(each) is int for each in domains) and all(
            type(each) is str for each in namespaces
        ):
            return Keystore(folder, Reach(tuple(domains), tuple(namespaces)), _own_policy(folder / POLICY_COPY))
    raise KeysError(f"{path}: expected lists of domains and namespaces, found something else")


def _own_policy(path: Path) -> tuple[Enclave, ...] | None:
    if not path.exists():
        return None
    data = read_own(path)
    try:
        (*values,) = parse_json(data)
        found = tuple(Enclave(**{name: _strings(name, value) for name, value in each.items()}) for each in values)
    except (AttributeError, TypeError, JsonError):
        found = ()
    if not found:
        wanted = ", ".join(each.name for each in fields(Enclave))
        raise KeysError(f"{path}: expected enclaves, each with {wanted}, found something else")
    return found


def _strings(name: str, value: object) -> Any:
    """The path of an enclave, or names of what it may do."""
    if name == "path" and isinstance(value, str):
        return value
    if name != "path" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise TypeError(name)


def make_keystore(
    folder: Path,
    enclaves: Sequence[Enclave],
    reach: Reach,
    *,
    days: int = 365,
    now: datetime | None = None,
    authorities: Keystore | None = None,
    own_policy: bool = False,
) -> Keystore:
    """Make a keystore, whole or not at all.

    Args:
        folder: new, or empty.
        enclaves: with what each may do.
        reach: where they may.
        days: for which certificates of enclaves and permissions hold; new authorities hold for ten years.
        now: from when on; None: from this moment.
        authorities: keystore that is renewed: nodes with certificates of either talk to each other. None: new ones.
        own_policy: the enclaves are not the workspace's; they are kept in it, for those who examine it.

    Raises:
        KeysError: there are files already, a name is none, the authorities end before, or `cryptography` is not
            installed.
        OSError: the files cannot be written.
    """
    holds = check_days(days)
    moment = now or datetime.now(UTC)
    begins, ends = moment - SLACK, moment + holds
    paths = [enclave.path for enclave in enclaves]
    if not paths or len(set(paths)) < len(paths):
        raise KeysError(f"enclaves: expected some, each once, found {', '.join(paths) or 'none'}")
    granted = {enclave.path: permissions_xml(enclave, reach, begins, ends) for enclave in enclaves}
    identity, permissions = _authorities(authorities, moment, ends)
    governance = governance_xml(reach.domains)
    signed_governance = sign(governance, permissions)
    with new_folder(folder) as made:
        write_own(made / ".gitignore", b"*\n")  # keys are not committed by mistake
        remembered = {"domains": list(reach.domains), "namespaces": list(reach.namespaces)}
        write_own(made / REACH_FILE, json.dumps(remembered).encode() + b"\n")
        if own_policy:
            write_own(made / POLICY_COPY, json.dumps([asdict(each) for each in enclaves], indent=1).encode() + b"\n")
        for name in (PUBLIC, PRIVATE, ENCLAVES):
            (made / name).mkdir(mode=0o700)
        for name, authority in ((IDENTITY, identity), (PERMISSIONS, permissions)):
            write_own(made / PUBLIC / f"{name}.cert.pem", authority.pem)
            write_own(made / PRIVATE / f"{name}.key.pem", authority.key_pem)
        write_own(made / ENCLAVES / f"{GOVERNANCE}.xml", governance)
        write_own(made / ENCLAVES / f"{GOVERNANCE}.p7s", signed_governance)
        for path, text in granted.items():
            own = made / ENCLAVES / path[1:]
            _make_private(own)
            key, certificate = identity.issue(path, begins, ends)
            write_own(own / "key.pem", key)
            write_own(own / "cert.pem", certificate)
            write_own(own / f"{IDENTITY}.cert.pem", identity.pem)
            write_own(own / f"{PERMISSIONS}.cert.pem", permissions.pem)
            write_own(own / f"{GOVERNANCE}.p7s", signed_governance)
            write_own(own / f"{GRANTED}.xml", text)
            write_own(own / f"{GRANTED}.p7s", sign(text, permissions))
    return Keystore(folder, reach, tuple(enclaves) if own_policy else None)


def _authorities(renewed: Keystore | None, moment: datetime, ends: datetime) -> tuple[Authority, Authority]:
    if renewed is None:
        begins, last = moment - SLACK, moment + timedelta(days=MOST_DAYS)
        name = f"SERL {moment:%Y-%m-%d} {secrets.token_hex(4)}"
        identity = Authority.new(f"{name} identity", begins, last)
        return identity, Authority.new(f"{name} permissions", begins, last, signs_files=True)
    for name in (IDENTITY, PERMISSIONS):
        path = renewed.certificate_file(name)
        last = read_certificate(path).not_valid_after_utc
        if last < ends:
            raise KeysError(
                f"{path}: ends on {last:%Y-%m-%d}, before what it would sign; fewer days, or a new keystore"
            )
    return renewed.authority(IDENTITY), renewed.authority(PERMISSIONS)


def _make_private(folder: Path) -> None:
    """Make a folder, and those that it is in, for their owner alone."""
    if not folder.parent.exists():
        _make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
