# SPDX-License-Identifier: Apache-2.0
"""Hosts on this machine, joined by a network that is slow, loses packets and is cut: for tests and benchmarks.

Each host is a network namespace with one address, a loopback interface and a shared memory (``/dev/shm``) of its own,
so that DDS has nothing but the network between two of them. There is no multicast. Files are those of this machine.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serl_launch.errors import CommandError


@dataclass(frozen=True)
class Traffic:
    """What has been sent since the network was made."""

    sent_bytes: Mapping[str, int]
    """Bytes by host, with the heads of IP packets, what was lost included."""
    sent_packets: Mapping[str, int]
    """Packets by host, what was lost included."""
    lost_packets: int
    """Packets that did not arrive, whoever has sent them."""


class WideArea:
    """A network of hosts; `command` says how to run something on one of them.

    Nothing is left behind, even where this process is killed: the network ends with it, and kills what still runs on
    its hosts.
    """

    def __init__(self, hosts: Sequence[str], folder: Path) -> None:
        """Make it.

        Args:
            hosts: their names.
            folder: for the temporary files of each host; must exist.

        Raises:
            CommandError: it cannot be made here; says why.
        """
        self._folder = folder
        self._closed = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serl_bench.network.wide_area_process", *hosts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._hosts: dict[str, dict[str, Any]] = self._answer()["hosts"]
        for host in hosts:
            (folder / host).mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def address(self, host: str) -> str:
        """The address of a host."""
        return str(self._hosts[host]["address"])

    def command(
        self, host: str, command: Sequence[str | Path], variables: Mapping[str, str] | None = None
    ) -> list[str]:
        """The command line that runs `command` on a host, in the folder of this process.

        Args:
            host: where.
            command: what.
            variables: of the environment, beside those of `environment`.
        """
        ours = self._hosts[host]
        fds = f"/proc/{self._process.pid}/fd"
        values = {**self.environment(host), **(variables or {})}
        return [
            *("nsenter", f"--net={fds}/{ours['network']}", f"--mount={fds}/{ours['mounts']}"),
            *("env", f"--chdir={Path.cwd()}", *(f"{name}={value}" for name, value in values.items())),
            *map(str, command),
        ]

    def environment(self, host: str) -> dict[str, str]:
        """Variables with which ROS 2 on a host finds that on the others: static peers, UDP alone, no multicast needed.

        The domain is the caller's. Locks of domains lie in the temporary folder, so each host has one of its own.
        """
        others = [self.address(other) for other in self._hosts if other != host]
        profile = Path(os.environ["SERL_WORKSPACE"]) / "config" / "fastdds_network.xml"
        return {
            "TMPDIR": str(self._folder / host),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",  # with LOCALHOST rmw puts shared memory beside the profile's UDP
            "ROS_STATIC_PEERS": ";".join(others),
            "FASTDDS_DEFAULT_PROFILES_FILE": str(profile),
            "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile),
        }

    def worsen(self, *, delay: float = 0.0, loss: float = 0.0) -> None:
        """Make every way between two hosts as bad as this.

        Args:
            delay: one way [s].
            loss: share of the packets, 0 to 1.
        """
        self._ask({"delay": delay, "loss": loss})

    @contextmanager
    def cut(self, host: str) -> Iterator[None]:
        """While this lasts no packet goes to a host or comes from it."""
        self._ask({"cut": {host: True}})
        try:
            yield
        finally:
            self._ask({"cut": {host: False}})

    def move(self, host: str, address: str) -> None:
        """Give a host another address, one of 10.77.0.0/24."""
        self._ask({"address": {host: str(ipaddress.IPv4Address(address))}})
        self._hosts[host]["address"] = address

    def traffic(self) -> Traffic:
        """What has been sent so far."""
        answer = self._ask({})
        sent = answer["sent"]
        return Traffic(
            sent_bytes={host: of["bytes"] for host, of in sent.items()},
            sent_packets={host: of["packets"] for host, of in sent.items()},
            lost_packets=answer["lost"],
        )

    def close(self) -> None:
        """End the network and what runs on its hosts; a second call does nothing.

        Raises:
            CommandError: it has ended before by itself; says why.
        """
        if self._closed:
            return
        self._closed = True
        reason = self._process.communicate()[1]
        if self._process.returncode:
            raise CommandError(_ended(reason))

    def _ask(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._closed = True
            raise CommandError(_ended(self._process.communicate()[1]))
        answer: dict[str, Any] = json.loads(line)
        return answer


def _ended(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return f"simulated network: {lines[-1] if lines else 'its process has ended'}"


def why_not() -> str:
    """Why there can be no such network on this machine; empty where there can."""
    try:
        with WideArea([], Path()):
            pass
    except CommandError as error:
        return str(error)
    return ""
