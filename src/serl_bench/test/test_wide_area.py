# SPDX-License-Identifier: Apache-2.0
"""The simulated network between hosts: what it does to packets, and that nothing of it stays."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serl_bench.network.wide_area import WideArea, why_not

# Answers each datagram; says its first line when it listens.
ECHO = """if True:
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("0.0.0.0", 7000))
        print("listens", flush=True)
        while True:
            data, who = here.recvfrom(65536)
            here.sendto(data, who)
"""
# Sends COUNT datagrams of SIZE bytes to an address, says how many come back within a second and the first one's way.
ASK = """if True:
    import socket, sys, time
    address, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.settimeout(1.0)
        started, first, found = time.monotonic(), 0.0, 0
        for _ in range(count):
            here.sendto(bytes(size), (address, 7000))
        try:
            while found < count:
                here.recv(65536)
                first = first or time.monotonic() - started
                found += 1
        except TimeoutError:
            pass
        print(found, first)
"""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[WideArea]:
    if reason := why_not():
        pytest.skip(reason)
    with WideArea(["robot", "learner"], tmp_path) as network:
        yield network


@pytest.fixture
def echo(network: WideArea) -> Iterator[None]:
    command = network.command("learner", [sys.executable, "-c", ECHO])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def ask(network: WideArea, count: int = 1, size: int = 100) -> tuple[int, float]:
    """Ask the echo on host learner: how many answers came, and the seconds until the first one."""
    arguments = [network.address("learner"), str(count), str(size)]
    command = network.command("robot", [sys.executable, "-c", ASK, *arguments])
    found, first = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    return int(found), float(first)


@pytest.mark.usefixtures("echo")
def test_what_is_sent_arrives_late_or_not_at_all(network: WideArea) -> None:
    before = network.traffic()
    assert ask(network, 1, 4000)[0] == 1  # in three packets of at most 1500 bytes, each with a head of its own
    after = network.traffic()
    assert after.sent_packets["robot"] - before.sent_packets["robot"] == 3
    assert after.sent_bytes["robot"] - before.sent_bytes["robot"] == 4000 + 8 + 3 * 20
    network.worsen(delay=0.05)
    assert ask(network)[1] >= 0.1
    network.worsen(loss=0.5)
    assert 20 < ask(network, 200)[0] < 80  # 50 of them, three standard deviations are 18
    network.worsen()
    with network.cut("robot"):
        assert ask(network) == (0, 0.0)
    assert ask(network)[0] == 1


@pytest.mark.usefixtures("echo")
def test_a_host_may_move_to_another_address(network: WideArea) -> None:
    network.move("learner", "10.77.0.9")
    assert ask(network)[0] == 1


def test_hosts_have_a_shared_memory_of_their_own_and_files_in_common(network: WideArea, tmp_path: Path) -> None:
    subprocess.run(network.command("robot", ["touch", "/dev/shm/only_here", tmp_path / "both"]), check=True)
    listed = subprocess.run(network.command("learner", ["ls", "/dev/shm", tmp_path]), capture_output=True, check=True)
    assert b"both" in listed.stdout
    assert b"only_here" not in listed.stdout
    assert not Path("/dev/shm/only_here").exists()


@pytest.mark.usefixtures("network")
def test_a_kill_leaves_nothing_behind(tmp_path: Path) -> None:
    owner = f"""if True:
        import subprocess
        from pathlib import Path
        from serl_bench.network.wide_area import WideArea
        network = WideArea(["only"], Path({str(tmp_path)!r}))
        command = network.command("only", ["sh", "-c", "echo; exec sleep 1000"])
        inside = subprocess.Popen(command, stdout=subprocess.PIPE)
        inside.stdout.readline()
        print(network._process.pid, inside.pid, flush=True)
        inside.wait()
    """
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30.0
    while any(Path("/proc", pid, "exe").exists() for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.02)
