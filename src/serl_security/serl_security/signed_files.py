# SPDX-License-Identifier: Apache-2.0
"""Files in clear text with a signature behind it (S/MIME, PKCS #7), as DDS Security wants its permissions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serl_security.certificates import Authority, KeysError, library, read_own

_DIGEST = bytes.fromhex("06092a864886f70d010904")  # the attribute messageDigest, 1.2.840.113549.1.9.4
_SIGNED = bytes.fromhex("06092a864886f70d010702")  # signedData, 1.2.840.113549.1.7.2
_SEQUENCE, _SET, _OCTETS, _FIRST = 0x30, 0x31, 0x04, 0xA0
_TEXT_HEAD = b"Content-Type: text/plain\r\n\r\n"


def sign(content: bytes, authority: Authority) -> bytes:
    """Content in clear text, with a signature behind it.

    Args:
        content: text.
        authority: that signs.
    """
    pkcs7 = library().pkcs7
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    builder = builder.add_signer(authority.certificate, authority.key, library().hashes.SHA256())
    options = [pkcs7.PKCS7Options.Text, pkcs7.PKCS7Options.DetachedSignature]
    return bytes(builder.sign(library().pem.Encoding.SMIME, options))


def read_signed(path: Path, certificate: Any) -> bytes:
    """Content of a signed file, as it was before the signature.

    Args:
        path: of the file.
        certificate: of the authority that must have signed it, by a key on an elliptic curve and SHA-256.

    Raises:
        KeysError: it is missing or damaged, its text was changed, or somebody else has signed it.
    """
    data = read_own(path)
    try:
        part, signature = _parts(data)
        attributes, signed = _signer(base64.b64decode(b"".join(signature.split()), validate=True))
        digest = _digest(attributes)
    except (ValueError, IndexError, StopIteration) as error:
        raise KeysError(f"{path}: expected text with a signature (S/MIME), found something else") from error
    canonical = part.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if digest != hashlib.sha256(canonical).digest():
        raise KeysError(f"{path}: its text is not what was signed; somebody has changed it")
    curves = library().curves
    key = certificate.public_key()
    if not isinstance(key, curves.EllipticCurvePublicKey):
        raise KeysError(f"{path}: expected an authority with a key on an elliptic curve, found another kind")
    try:
        key.verify(signed, bytes([_SET]) + attributes[1:], curves.ECDSA(library().hashes.SHA256()))
    except library().exceptions.InvalidSignature as error:
        raise KeysError(f"{path}: not signed by the authority of the keystore") from error
    if not canonical.startswith(_TEXT_HEAD):
        raise KeysError(f"{path}: expected signed text/plain, found another type")
    return canonical.removeprefix(_TEXT_HEAD).replace(b"\r\n", b"\n")


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The part that is signed, and the signature in base 64."""
    head, separator, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not separator or b"multipart/signed" not in head:
        raise ValueError("no head")
    boundary = b"\n--" + head.split(b'boundary="', 1)[1].split(b'"', 1)[0]
    _before, part, signature = (b"\n" + body).split(boundary)[:3]
    return part.removeprefix(b"\n"), signature.partition(b"\n\n")[2]


def _signer(data: bytes) -> tuple[bytes, bytes]:
    """Attributes of the one signer, and the signature over them; of DER as PKCS #7 has it."""
    kind, wrapped = list(_children(data, _SEQUENCE))[:2]
    if kind != _SIGNED:
        raise ValueError("no signed data")
    inner = next(_children(wrapped, _FIRST))
    signers = list(_children(inner, _SEQUENCE))[-1]
    (signer,) = _children(signers, _SET)
    fields = list(_children(signer, _SEQUENCE))
    attributes = next(field for field in fields if field[0] == _FIRST)
    signature = fields[fields.index(attributes) + 2]
    return attributes, _content(signature, _OCTETS)


def _digest(attributes: bytes) -> bytes:
    for attribute in _children(attributes, _FIRST):
        kind, values = list(_children(attribute, _SEQUENCE))[:2]
        if kind == _DIGEST:
            return _content(next(_children(values, _SET)), _OCTETS)
    return b""


def _children(data: bytes, tag: int) -> Iterator[bytes]:
    content = _content(data, tag)
    while content:
        end = sum(_span(content))
        yield content[:end]
        content = content[end:]


def _content(data: bytes, tag: int) -> bytes:
    start, length = _span(data)
    if data[0] != tag or len(data) != start + length:
        raise ValueError("not what was expected")
    return data[start:]


def _span(data: bytes) -> tuple[int, int]:
    """Where the content of the first element begins, and its length."""
    first = data[1]
    if first < 0x80:
        start, length = 2, first
    else:
        count = first & 0x7F
        if not 0 < count <= 4:
            raise ValueError("no length")
        start, length = 2 + count, int.from_bytes(data[2 : 2 + count], "big")
    if start + length > len(data):
        raise ValueError("cut off")
    return start, length
