# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a keystore, before nodes wait for each other because of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from serl_security.certificates import (
    KeysError,
    common_name,
    public,
    read_certificate,
    read_own,
    read_private_key,
    refuse_expired,
    refuse_foreign,
)
from serl_security.keystore import ENCLAVES, GOVERNANCE, GRANTED, IDENTITY, PERMISSIONS, PRIVATE, Keystore
from serl_security.permissions import governance_xml, permissions_xml
from serl_security.policy import Enclave
from serl_security.signed_files import read_signed


def problems(keystore: Keystore, enclaves: Sequence[Enclave], *, now: datetime | None = None) -> Iterator[str]:
    """One line for each thing that is wrong with a keystore.

    Args:
        keystore: that `open_keystore` opened.
        enclaves: of the policy; one that has no certificate here may be on another machine.
        now: the time at which it must hold; None: this moment.
    """
    moment = now or datetime.now(UTC)
    wanted = {enclave.path: enclave for enclave in enclaves}
    for path in keystore.enclaves:
        yield from _said(partial(_check_identity, keystore, path, moment))
        yield from _said(partial(_check_governance, keystore, path, moment))
        if path in wanted:
            yield from _said(partial(_check_permissions, keystore, wanted[path]))
        else:
            yield f"{keystore.folder / ENCLAVES / path[1:]}: the policy has no enclave {path}"
    if not keystore.enclaves:
        yield f"{keystore.folder / ENCLAVES}: expected enclaves, found none"
    for name in (IDENTITY, PERMISSIONS):
        if (keystore.folder / PRIVATE / f"{name}.key.pem").exists():
            yield from _said(partial(keystore.authority, name))


def _said(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except KeysError as error:
        yield str(error)


def _check_identity(keystore: Keystore, path: str, at: datetime) -> None:
    folder = keystore.enclave_folder(path)
    certificate, authority = read_certificate(folder / "cert.pem"), read_certificate(folder / f"{IDENTITY}.cert.pem")
    if public(read_private_key(folder / "key.pem")) != public(certificate):
        raise KeysError(f"{folder / 'key.pem'}: expected the key of cert.pem, found another one")
    refuse_expired(folder / "cert.pem", certificate, at)
    _refuse_other(keystore, IDENTITY, folder)
    refuse_expired(folder / f"{IDENTITY}.cert.pem", authority, at)
    refuse_foreign(folder / "cert.pem", certificate, authority, f"{IDENTITY}.cert.pem")
    if common_name(certificate) != path:
        found = common_name(certificate)
        raise KeysError(f"{folder / 'cert.pem'}: expected a certificate of {path}, found one of {found}")


def _refuse_other(keystore: Keystore, authority: str, folder: Path) -> None:
    own, public_file = folder / f"{authority}.cert.pem", keystore.certificate_file(authority)
    if read_certificate(own) != read_certificate(public_file):
        raise KeysError(f"{own}: expected the authority of {public_file}, found another one: of another keystore?")


def _check_governance(keystore: Keystore, path: str, at: datetime) -> None:
    folder = keystore.enclave_folder(path)
    authority = read_certificate(folder / f"{PERMISSIONS}.cert.pem")
    _refuse_other(keystore, PERMISSIONS, folder)
    refuse_expired(folder / f"{PERMISSIONS}.cert.pem", authority, at)
    if read_signed(folder / f"{GOVERNANCE}.p7s", authority) != governance_xml(keystore.reach.domains):
        raise KeysError(f"{folder / f'{GOVERNANCE}.p7s'}: protects otherwise than is expected, or other domains")


def _check_permissions(keystore: Keystore, enclave: Enclave) -> None:
    folder = keystore.enclave_folder(enclave.path)
    certificate = read_certificate(folder / "cert.pem")
    signed = read_signed(folder / f"{GRANTED}.p7s", read_certificate(folder / f"{PERMISSIONS}.cert.pem"))
    holds = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if signed != permissions_xml(enclave, keystore.reach, *holds):
        renew = "./serl security init NEW --sros --renew OLD"
        raise KeysError(f"{folder / f'{GRANTED}.p7s'}: differs from the policy; {renew}")
    if read_own(folder / f"{GRANTED}.xml") != signed:
        raise KeysError(f"{folder / f'{GRANTED}.xml'}: is not the text of {GRANTED}.p7s, which counts")


def ends(keystore: Keystore) -> datetime:
    """When the first certificate of an enclave expires. Raises KeysError where one cannot be read."""
    files = [keystore.enclave_folder(path) / "cert.pem" for path in keystore.enclaves]
    return min(read_certificate(file).not_valid_after_utc for file in files)
