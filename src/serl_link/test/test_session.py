# SPDX-License-Identifier: Apache-2.0
"""Who is let in at a session with keys, over the loopback interface, and what is said of who is not."""

import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("zenoh", reason="./serl setup link")
pytest.importorskip("cryptography", reason="./serl setup link")
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from serl_link.keys import make_keys, read_keys
from serl_link.reasons import stranger, why_not
from serl_link.session import open_session

# A process of its own, since Zenoh's log goes to the standard output.
SERVE = """
import sys
from pathlib import Path
from serl_link.keys import read_keys
from serl_link.session import open_session
session = open_session(read_keys(Path(sys.argv[1]), "learner"), "127.0.0.1", int(sys.argv[2]))
queryable = session.declare_queryable("secret", lambda query: query.reply("secret", b"read"))
heard = session.declare_subscriber("arm", lambda sample: print("MOVED", flush=True))
print("ready", flush=True)
sys.stdin.read()
session.close()
"""


class Learner:
    """A side that listens and what it has written."""

    def __init__(self, keys: Path, port: int) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(keys), str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wait_for(lambda line: line == "ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, wanted: Callable[[str], object], timeout: float = 30.0) -> str:
        deadline = time.monotonic() + timeout
        while not (found := [line for line in list(self.lines) if wanted(line)]):
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)
        return found[0]

    def close(self) -> None:
        self.process.communicate("", timeout=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of this run, of another one, and an expired certificate by the authority of this one."""
    base = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_keys(base / name, ["127.0.0.1"])
    make_keys(base / "elsewhere", ["other.example"])
    shutil.copytree(base / "ours/robot", base / "expired")
    authority = x509.load_pem_x509_certificate((base / "ours/robot/authority.crt").read_bytes())
    key = load_pem_private_key((base / "ours/authority.key").read_bytes(), None)
    own = x509.load_pem_x509_certificate((base / "ours/robot/host.crt").read_bytes())
    past = datetime.now(UTC) - timedelta(days=2)
    builder = x509.CertificateBuilder().subject_name(own.subject).issuer_name(authority.subject)
    builder = builder.public_key(own.public_key()).serial_number(7).not_valid_before(past)
    builder = builder.not_valid_after(past + timedelta(days=1))
    for extension in own.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    (base / "expired/host.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return base


@pytest.fixture(scope="module")
def learner(folder: Path) -> Iterator[Learner]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Learner(folder / "ours/learner", port)
    yield served
    served.close()


def read_and_move(keys: object, port: int, seconds: float) -> list[bytes]:
    """What somebody with these keys reads, who also tries to move the arm."""
    session = open_session(keys, "127.0.0.1", port)
    try:
        deadline, found = time.monotonic() + seconds, []
        while not found and time.monotonic() < deadline:
            session.put("arm", b"move")
            found = [bytes(reply.ok.payload) for reply in session.get("secret", timeout=1.0) if reply.ok]
            time.sleep(0.05)
        return found
    finally:
        session.close()


class Anyones:
    """Keys that nobody has looked at."""

    side = "robot"

    def __init__(self, folder: Path) -> None:
        self.authority_file, self.certificate_file = folder / "authority.crt", folder / "host.crt"
        self.key_file = folder / "host.key"


def test_who_has_keys_of_the_run_is_let_in(folder: Path, learner: Learner) -> None:
    assert read_and_move(read_keys(folder / "ours/robot", "robot"), learner.port, 20.0) == [b"read"]
    assert why_not("127.0.0.1", learner.port, read_keys(folder / "ours/robot", "robot")) == ""
    learner.wait_for(lambda line: line == "MOVED")
    learner.lines[:] = [line for line in learner.lines if line != "MOVED"]


@pytest.mark.parametrize(
    ("who", "at_theirs", "at_ours"),
    [
        ("theirs/robot", "its certificate is refused: ", "its certificate is by another authority"),
        ("expired", "it says that our certificate has expired", "its certificate has expired"),
        (
            "ours/learner",
            "it does not take our certificate for this side",
            "its certificate is not for the robot's side",
        ),
    ],
)
def test_a_stranger_reads_nothing_moves_nothing_and_both_sides_say_why(
    folder: Path, learner: Learner, who: str, at_theirs: str, at_ours: str
) -> None:
    del learner.lines[:]
    keys = Anyones(folder / who)
    assert why_not("127.0.0.1", learner.port, keys).startswith(at_theirs)
    assert read_and_move(keys, learner.port, 2.0) == []
    assert learner.wait_for(lambda line: stranger(line) == at_ours)
    assert "MOVED" not in learner.lines


def test_a_stranger_with_the_right_authority_but_no_certificate_is_refused(folder: Path, learner: Learner) -> None:
    del learner.lines[:]
    context = ssl.create_default_context(cafile=folder / "ours/robot/authority.crt")
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
        socket.create_connection(("127.0.0.1", learner.port), 5.0) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as joined,
    ):
        joined.recv(1)
    learner.wait_for(lambda line: stranger(line) == "it has no certificate")


def test_plain_bytes_are_refused_and_the_next_one_is_served(folder: Path, learner: Learner) -> None:
    del learner.lines[:]
    with socket.create_connection(("127.0.0.1", learner.port), 5.0) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
    learner.wait_for(lambda line: stranger(line) == "it speaks no TLS")
    assert read_and_move(read_keys(folder / "ours/robot", "robot"), learner.port, 20.0) == [b"read"]


def test_a_learner_elsewhere_and_nobody_are_told_apart(folder: Path, learner: Learner) -> None:
    ours = read_keys(folder / "ours/robot", "robot")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert why_not("127.0.0.1", port, ours) == "nobody answers there"
    assert why_not("127.0.0.1", port, ours).startswith("Connection refused; is the learner's side started")
    assert "started" not in why_not("255.255.255.255", port, ours)  # the network itself takes no such connection
    assert "Hostname mismatch" in why_not("localhost", learner.port, ours)
