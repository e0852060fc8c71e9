# SPDX-License-Identifier: Apache-2.0
"""The process behind `WideArea`: holds the hosts' namespaces and carries packets between them.

``python -m serl_bench.network.wide_area_process HOST...`` takes a JSON object a line on its input and answers each by
one. It ends when its input does, and with it go the devices, the namespaces, and whatever runs in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import ipaddress
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

NETWORK = ipaddress.IPv4Network("10.77.0.0/24")
_MTU = 1500  # [bytes]
_ENTERING = 0.2  # [s] in which what was started just before the end has entered a namespace
_MOST_QUEUED = 200_000  # packets on their way
# From the kernel's headers, which Python does not have.
_NEW_MOUNTS, _NEW_NETWORK = 0x00020000, 0x40000000  # CLONE_NEWNS, CLONE_NEWNET
_PRIVATE = (1 << 14) | (1 << 18)  # MS_REC | MS_PRIVATE
_SET_DEVICE, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000  # TUNSETIFF, IFF_TUN, IFF_NO_PI
_SET_FLAGS, _SET_ADDRESS, _SET_MASK, _SET_MTU = 0x8914, 0x8916, 0x891C, 0x8922  # SIOCSIF...
_SET_QUEUE, _PACKETS = 0x8943, 10_000  # SIOCSIFTXQLEN; what is sent at once is not lost before it is here
_UP = 0x1 | 0x40  # IFF_UP | IFF_RUNNING
_DEVICE = b"wide0"
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """A host: a network namespace with a device of its own, and a shared memory of its own."""

    def __init__(self, address: str) -> None:
        """Make it and move this process there.

        Args:
            address: of its device.

        Raises:
            OSError: this process may not, or the kernel has no TUN devices.
        """
        _call("unshare", _NEW_MOUNTS | _NEW_NETWORK)
        _call("mount", b"none", b"/", None, _PRIVATE, None)
        _call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", 0, None)
        self.network = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.device, _SET_DEVICE, struct.pack("16sH22x", _DEVICE, _TUN | _NO_HEADER))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # stays one of this namespace
        self._set(b"lo", _SET_FLAGS, struct.pack("H22x", _UP))
        self.sent = self.sent_bytes = 0
        self.cut = False
        self.move(address)

    def move(self, address: str) -> None:
        """Give it another address."""
        self.address = ipaddress.IPv4Address(address)
        self._set(_DEVICE, _SET_ADDRESS, _socket_address(self.address))
        self._set(_DEVICE, _SET_MASK, _socket_address(NETWORK.netmask))
        self._set(_DEVICE, _SET_MTU, struct.pack("i20x", _MTU))
        self._set(_DEVICE, _SET_QUEUE, struct.pack("i20x", _PACKETS))
        self._set(_DEVICE, _SET_FLAGS, struct.pack("H22x", _UP))

    def _set(self, device: bytes, what: int, value: bytes) -> None:
        fcntl.ioctl(self._socket, what, struct.pack("16s", device) + value)


class Network:
    """Carries packets between hosts: late, not all of them, and none to or from one that is cut off."""

    def __init__(self, names: list[str]) -> None:
        """Make a host of each name, with the addresses of `NETWORK` in their order."""
        addresses = NETWORK.hosts()
        self._hosts = {name: Host(str(next(addresses))) for name in names}
        self._by_device = {host.device: host for host in self._hosts.values()}
        self._random = random.Random(0)
        self._delay = self._loss = 0.0
        self._count = self._lost = 0
        self._queue: list[tuple[float, int, Host, Host, bytes]] = []

    def run(self) -> None:
        """Carry packets and do what is asked for until the input ends."""
        self._answer({"hosts": {name: self._said(host) for name, host in self._hosts.items()}})
        asked = b""
        devices = list(self._by_device)
        while True:
            wait = max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None
            for ready in select.select([0, *devices], [], [], wait)[0]:
                if ready:
                    self._take(self._by_device[ready])
                    continue
                data = os.read(0, 65536)
                if not data:
                    return
                *lines, asked = (asked + data).split(b"\n")
                for line in lines:
                    self._do(json.loads(line))
            self._deliver()

    def close(self) -> None:
        """Kill what runs in the hosts, so that they are gone when this process is."""
        networks = {os.fstat(host.network).st_ino for host in self._hosts.values()}
        until = time.monotonic() + _ENTERING
        while time.monotonic() < until:
            for pid in _processes():
                if pid != os.getpid() and _network_of(pid) in networks:
                    until = time.monotonic() + _ENTERING
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def _said(self, host: Host) -> dict[str, Any]:
        return {"address": str(host.address), "network": host.network, "mounts": host.mounts}

    def _do(self, asked: dict[str, Any]) -> None:
        self._delay = asked.get("delay", self._delay)
        self._loss = asked.get("loss", self._loss)
        for name, cut in asked.get("cut", {}).items():
            self._hosts[name].cut = cut
        for name, address in asked.get("address", {}).items():
            self._hosts[name].move(address)
        sent = {name: {"packets": host.sent, "bytes": host.sent_bytes} for name, host in self._hosts.items()}
        self._answer({"sent": sent, "lost": self._lost})

    def _answer(self, answer: dict[str, Any]) -> None:
        os.write(1, json.dumps(answer).encode() + b"\n")

    def _take(self, sender: Host) -> None:
        """Take what a host sends. What is for many, as multicast is, or for nobody here, goes nowhere."""
        addresses = {host.address.packed: host for host in self._hosts.values()}
        due = time.monotonic() + self._delay
        while True:
            try:
                packet = os.read(sender.device, 65536)
            except BlockingIOError:
                return
            receiver = addresses.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if receiver is None:
                continue
            sender.sent += 1
            sender.sent_bytes += len(packet)
            if sender.cut or receiver.cut or len(self._queue) >= _MOST_QUEUED or self._random.random() < self._loss:
                self._lost += 1
                continue
            self._count += 1
            heapq.heappush(self._queue, (due, self._count, sender, receiver, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._queue and self._queue[0][0] <= now:
            _, _, sender, receiver, packet = heapq.heappop(self._queue)
            if sender.cut or receiver.cut:
                self._lost += 1
                continue
            os.write(receiver.device, packet)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _network_of(pid: int) -> int:
    """Inode of the network namespace of a process; 0 for one that has ended, or is none of ours."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _socket_address(address: ipaddress.IPv4Address) -> bytes:
    return struct.pack("=HH4s16x", socket.AF_INET, 0, address.packed)


def main() -> None:
    """Entry point of the process."""
    if not Path("/dev/net/tun").exists():
        sys.exit("the kernel gives no TUN devices: there is no /dev/net/tun")
    try:
        network = Network(sys.argv[1:])
    except OSError as error:
        sys.exit(f"no network of its own can be made, which needs root: {error}")
    try:
        network.run()
    finally:
        network.close()


if __name__ == "__main__":
    main()
