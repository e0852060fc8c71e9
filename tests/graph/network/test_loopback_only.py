# SPDX-License-Identifier: Apache-2.0
"""Without --network nothing of a graph leaves the machine, and nobody from outside finds it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
from serl_bench.network.wide_area import WideArea, why_not

pytestmark = pytest.mark.graph

ROOT = Path(__file__).resolve().parents[3]
LOOK = """
import json, sys, time, rclpy
rclpy.init()
node, wanted, found, end = rclpy.create_node("spy"), set(sys.argv[2:]), set(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and not (wanted and wanted <= found):
    rclpy.spin_once(node, timeout_sec=0.1)
    found |= set(node.get_node_names()) - {"spy"}
tables = {name: open(f"/proc/self/net/{name}").read() for name in ("udp", "udp6", "tcp", "tcp6", "igmp")}
print(json.dumps({"nodes": sorted(found), "tables": tables}))
"""
NODES = {"mujoco_bridge", "arm_controller", "reward", "scripted_human", "actor"}
MULTICAST = "239.255.0.1"  # of RTPS
UNSET = dict.fromkeys(
    ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_STATIC_PEERS"), ""
)  # of a host of the simulated network


@pytest.fixture
def network(tmp_path: Path) -> Iterator[WideArea]:
    if reason := why_not():
        pytest.skip(reason)
    with WideArea(["robot", "stranger"], tmp_path) as area:
        yield area


def look(network: WideArea, host: str, seconds: float, *nodes: str, **variables: str) -> dict[str, Any]:
    """What a node on a host has found when it has found `nodes`, or after `seconds`, and the sockets of the host."""
    command = network.command(host, [sys.executable, "-c", LOOK, str(seconds), *nodes], variables)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def foreign_addresses(tables: dict[str, str]) -> set[str]:
    """The addresses, other than of the loopback interface, to which sockets of a host are bound or connected."""
    found = set()
    for name in ("udp", "udp6", "tcp", "tcp6"):
        for line in tables[name].splitlines()[1:]:
            for end, text in enumerate(line.split()[1:3]):
                raw = b"".join(
                    word[::-1] for word in [bytes.fromhex(text.partition(":")[0])[i:][:4] for i in (0, 4, 8, 12)]
                )
                address = socket.inet_ntop(socket.AF_INET6 if name.endswith("6") else socket.AF_INET, raw)
                nobody = end == 1 and not any(raw)  # not connected
                if not (nobody or address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")):
                    found.add(address)
    return found


def interfaces_of_the_group(igmp: str) -> set[str]:
    """The interfaces on which somebody listens to the multicast of RTPS."""
    found, interface = set(), ""
    for line in igmp.splitlines()[1:]:
        words = line.split()
        if len(words) > 4:
            interface = words[1]
        elif socket.inet_ntoa(bytes.fromhex(words[0])[::-1]) == MULTICAST:
            found.add(interface)
    return found


def test_a_graph_speaks_and_listens_on_the_loopback_interface_alone(network, processes, ros_domain) -> None:
    del ros_domain
    local = {**UNSET, "ROS_AUTOMATIC_DISCOVERY_RANGE": ""}
    words = ["./serl", "launch", "sim.launch.xml", "task:=pick_cube", "learner:=false"]
    graph = processes.start(*network.command("robot", words, local))
    profile = str(ROOT / "config" / "fastdds.xml")
    beside = look(
        network, "robot", 90.0, *NODES, FASTRTPS_DEFAULT_PROFILES_FILE=profile, FASTDDS_DEFAULT_PROFILES_FILE=profile
    )
    assert set(beside["nodes"]) >= NODES, graph.output()
    assert foreign_addresses(beside["tables"]) <= {MULTICAST}
    assert interfaces_of_the_group(beside["tables"]["igmp"]) == {"lo"}
    assert network.traffic().sent_packets["robot"] == 0  # for as long as the graph runs
    assert look(network, "stranger", 3.0, *NODES)["nodes"] == []
    assert "NETWORK OPEN" not in graph.output()


def test_with_the_flag_others_find_it_and_it_says_so(network, processes, ros_domain) -> None:
    flag = f"--network={network.address('stranger')}"
    words = [
        "./serl",
        flag,
        "shell",
        "python",
        "-c",
        "import rclpy; rclpy.init(); rclpy.spin(rclpy.create_node('open'))",
    ]
    node = processes.start(*network.command("robot", words, {**UNSET, "ROS_AUTOMATIC_DISCOVERY_RANGE": ""}))
    outside = look(network, "stranger", 60.0, "open")
    assert outside["nodes"] == ["open"], node.output()
    said = " ".join(node.output().split())
    address = network.address("robot")
    assert f"{address}), ROS domain {ros_domain}, peers {network.address('stranger')}: whoever reaches it can" in said
