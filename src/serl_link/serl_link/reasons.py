# SPDX-License-Identifier: Apache-2.0
"""Why two sides do not talk: what Zenoh does not say, found by a TLS handshake of Python's own."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from serl_link.keys import Keys

_TIMEOUT = 3.0  # [s] for each step
_REFUSAL = 1.0  # [s] in which the other side says that it takes no such certificate

_ALERTS = {
    "UNKNOWN_CA": "it does not know the authority of our keys: the two sides have keys of two ./serl security init",
    "CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "CERTIFICATE_REQUIRED": "it asks for a certificate and got none",
    "BAD_CERTIFICATE": "it does not take our certificate",
    "CERTIFICATE_UNKNOWN": "it does not take our certificate",
    "UNSUPPORTED_CERTIFICATE": "it does not take our certificate for this side",
    "DECRYPT_ERROR": "it does not take our certificate: another authority of the same name has signed it",
    "WRONG_VERSION_NUMBER": "something else than a link with keys listens there: it speaks no TLS",
}

_STRANGERS = {
    "UnknownCA": "its certificate is by another authority",
    "UnknownIssuer": "its certificate is by another authority",
    "BadSignature": "its certificate is by another authority",
    "no certificates": "it has no certificate",
    "not valid after": "its certificate has expired",
    "CertificateExpired": "its certificate has expired",
    "extended key usage": "its certificate is not for the robot's side",
    "InvalidContentType": "it speaks no TLS",
    "corrupt message": "it speaks no TLS",
}


def why_not(host: str, port: int, keys: Keys) -> str:
    """Why the robot's side is not joined to the learner's, as a try of its own finds; empty where that finds nothing.

    Args:
        host: name or address of the learner's machine.
        port: of its link.
        keys: of the robot's side.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(keys.authority_file)
        context.load_cert_chain(keys.certificate_file, keys.key_file)
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as joined,
        ):
            joined.settimeout(_REFUSAL)
            try:
                joined.recv(1)  # with TLS 1.3 a refusal comes after our side of the handshake
            except TimeoutError:
                return ""
            return "it closes the connection"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message}"
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        said = [text for name, text in _ALERTS.items() if name in reason]
        return said[0] if said else f"TLS: {reason}"
    except TimeoutError:
        return "nobody answers there"
    except socket.gaierror as error:
        return f"there is no such name: {error.strerror}"
    except ConnectionRefusedError as error:
        return f"{error.strerror or error}; is the learner's side started with link:=?"
    except OSError as error:  # the network itself, as a cable that is pulled
        return error.strerror or str(error)


def stranger(line: str) -> str:
    """Why somebody was refused at the learner's side, from a line of Zenoh's log; empty for any other line."""
    if "zenoh_link_tls" not in line or ("WARN" not in line and "ERROR" not in line):
        return ""
    line = line.removesuffix(" Hint: increase the system open file limit.")
    said = [text for name, text in _STRANGERS.items() if name in line]
    return said[0] if said else line.rpartition("\x1b[0m ")[2]


def seen_at(port: int, known: frozenset[str]) -> list[str]:
    """Addresses whose connections to a TCP port of this machine have just ended.

    Args:
        port: of the link.
        known: addresses that are left out.
    """
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            rows = [line.split() for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if int(row[1].rpartition(":")[2], 16) == port and row[3] not in ("0A", "01"):
                raw = bytes.fromhex(row[2].partition(":")[0])
                packed = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                found.add(socket.inet_ntop(family, packed).removeprefix("::ffff:"))
    return sorted(found - known)


class StrangersLog:
    """Reads what Zenoh writes of its listener, and tells of each stranger why it was refused; from a thread.

    Zenoh writes its log to the standard output of the process, which no node of ours does.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Take over the standard output; all other lines go where they went."""
        self._tell = tell
        self._output = os.dup(1)
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(writing)
        self._thread = threading.Thread(target=self._read, args=(reading,), name="strangers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the standard output back."""
        os.dup2(self._output, 1)  # the last end for writing goes, and the thread with it
        self._thread.join(1.0)

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace") as lines:
            said = False
            for line in lines:
                why = stranger(line)
                try:
                    if why:
                        self._tell(why)
                    else:
                        os.write(self._output, line.encode())
                except Exception as error:  # noqa: BLE001 - were nobody to read on, Zenoh would wait for ever to write
                    if not said:
                        print(f"link: a line of its log is lost: {error}", file=sys.stderr, flush=True)
                    said = True
