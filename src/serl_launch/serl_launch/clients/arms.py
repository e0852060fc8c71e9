# SPDX-License-Identifier: Apache-2.0
"""The arm controllers of this user on this machine, as the kernel knows them.

Nothing here joins a graph or waits: what is found holds whatever files say, and while DDS is stuck.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from serl_launch.domain import VARIABLE

_PROGRAMS = frozenset({"arm_controller", "arm_controller_node.py", "serl_robots.arm_controller_node"})
_INTERPRETER_WORDS = 4  # of a command line, among which the program is: python -X OPTION PROGRAM
_LONGEST = 65536  # [bytes] of a command line or an environment that are looked at


@dataclass(frozen=True)
class LocalArm:
    """A process of this user that runs an arm controller."""

    pid: int
    domain_id: int
    namespace: str  # "" or "/left"

    @property
    def service(self) -> str:
        """Full name of its e-stop service."""
        return f"{self.namespace}/arm/estop"

    def state(self) -> str:
        """State of the process as one letter, see proc_pid_stat(5); empty when it is gone."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return ""

    def halt(self) -> bool:
        """Tell the process itself to latch its e-stop, by SIGUSR1. False when it does not listen to that or is gone."""
        try:
            handle = os.pidfd_open(self.pid)  # from here on the number cannot come to mean another process
        except OSError:
            return False
        try:
            if _arm_of(self.pid) != self or not _catches(self.pid, signal.SIGUSR1):
                return False
            signal.pidfd_send_signal(handle, signal.SIGUSR1)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True


def local_arms() -> list[LocalArm]:
    """Arm controllers of this user that run on this machine now."""
    found = (_arm_of(pid) for pid in _processes())
    return [arm for arm in found if arm is not None and _status(arm.pid, "Uid") == str(os.getuid())]


def is_own_participant(gid: bytes, own_gid: bytes) -> bool | None:
    """Whether an endpoint belongs to a process of this user or, False, of another; None where nobody can tell.

    Fast DDS begins its GUIDs with its vendor id, two bytes for the machine and two of the process number. On another
    machine, in a container or with another middleware they tell nothing.
    """
    if gid[:2] != b"\x01\x0f" or gid[:4] != own_gid[:4]:
        return None
    low = int.from_bytes(gid[4:6], "little")
    owners = {_status(pid, "Uid") for pid in _processes() if pid & 0xFFFF == low} - {""}
    return str(os.getuid()) in owners if owners else None


def _arm_of(pid: int) -> LocalArm | None:
    words = _read(pid, "cmdline")
    names = [Path(word).name for word in words[:_INTERPRETER_WORDS]] or [""]
    if not (_PROGRAMS.intersection(names) if names[0].startswith("python") else names[0] in _PROGRAMS):
        return None
    namespaces = [word.partition("__ns:=")[2] for word in words if "__ns:=" in word]
    namespace = namespaces[-1].strip("/") if namespaces else ""
    domains = [entry.partition("=")[2] for entry in _read(pid, "environ") if entry.startswith(f"{VARIABLE}=")]
    domain_id = int(domains[0]) if domains and domains[0].isdecimal() else 0
    return LocalArm(pid, domain_id, f"/{namespace}" if namespace else "")


def _read(pid: int, name: str) -> list[str]:
    try:
        with Path(f"/proc/{pid}/{name}").open("rb") as file:
            return file.read(_LONGEST).decode(errors="replace").split("\0")
    except OSError:
        return []


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]  # noqa: PTH208 - names are enough


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal: one without would be ended by it."""
    return bool(int(_status(pid, "SigCgt") or "0", 16) >> (number - 1) & 1)


def _status(pid: int, name: str) -> str:
    """First word of a line of proc_pid_status(5); empty when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")
