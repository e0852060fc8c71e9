# SPDX-License-Identifier: Apache-2.0
"""How far ./serl lets ROS 2 look and be seen."""

import re
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_a_profile_of_a_person_is_kept(ready):
    variables = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE")
    assert ready.serl("shell", "printenv", *variables).stdout.splitlines() == [
        "SUBNET",
        f"{ready.root}/config/fastdds.xml",
    ]
    own = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "FASTDDS_DEFAULT_PROFILES_FILE": "/own.xml"}
    assert ready.serl("shell", "printenv", *variables, **own).stdout.splitlines() == ["OFF", "/own.xml"]
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        result = ready.serl("shell", "printenv", *variables, **{name: "/own.xml"})
        assert result.stdout.splitlines() == ["/own.xml"]
        assert "NETWORK OPEN on the network as /own.xml says" in result.stderr


NETWORK = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "FASTRTPS_DEFAULT_PROFILES_FILE")


def test_the_network_is_opened_by_a_flag_alone(ready):
    local, wide = (f"{ready.root}/config/fastdds{name}.xml" for name in ("", "_network"))
    for name, value in (("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET"), ("ROS_STATIC_PEERS", "10.0.0.2")):
        result = ready.serl("shell", "printenv", *NETWORK, **{name: value})
        assert result.stdout.splitlines() == ["SUBNET", local]
        assert f"note: {name}={value} is left aside" in result.stderr and len(result.stderr.splitlines()) == 1
    peers = ["SUBNET", "10.0.0.2;10.0.0.3", wide]
    for words, variables in (
        (["--network=10.0.0.2;10.0.0.3", "shell"], {}),
        (["shell"], {"SERL_NETWORK": "10.0.0.2;10.0.0.3"}),
        (["--network", "shell"], {"ROS_STATIC_PEERS": "10.0.0.2;10.0.0.3"}),
        (["--network=10.0.0.2;10.0.0.3", "shell", *ready.command(), "shell"], {}),  # which keeps it
    ):
        result = ready.serl(*words, "printenv", *NETWORK, **variables)
        assert result.stdout.splitlines() == peers
        assert "NETWORK OPEN" in result.stderr.splitlines()[0] and "peers 10.0.0.2;10.0.0.3:" in result.stderr


def test_the_flag_may_stand_anywhere_but_in_the_words_of_others(ready):
    result = ready.serl("launch", "sim.launch.xml", "--network", "--", "--network")
    assert result.stdout == "[launch][sim.launch.xml][--][--network]\n" and "NETWORK OPEN" in result.stderr
    result = ready.serl("shell", "echo", "--network")
    assert (result.stdout, result.stderr) == ("--network\n", "")
    assert "expected the other machines as HOST;HOST" in ready.serl("--network=", "nodes").stderr
    for bad in ("a b", "$(touch x)"):
        assert "SERL_NETWORK=" in (result := ready.serl("nodes", SERL_NETWORK=bad)).stderr and result.returncode == 1


def test_a_stop_goes_as_far_as_a_shell_lets_it(ready):
    for variables in ({"ROS_STATIC_PEERS": "10.0.0.2"}, {"SERL_NETWORK": "a b"}):
        result = ready.serl("estop", **variables)
        assert (result.stdout, result.stderr) == ("[estop]\n", "")
    result = ready.serl("--network=", "estop")  # as of a variable that nobody has set
    assert (result.stdout, result.stderr) == ("[estop]\n", "")


def test_the_profiles_differ_in_interfaces_sizes_and_announcements_alone():
    local, network = ((CONFIG / f"fastdds{name}.xml").read_text().partition("<dds")[2] for name in ("", "_network"))
    local = re.sub(r" *<interfaceWhiteList>.*</interfaceWhiteList>\n", "", local, flags=re.DOTALL)
    texts = []
    for text in (local, network):
        for name in ("maxMessageSize", "leaseAnnouncement"):
            text, count = re.subn(f"<{name}>.*?</{name}>", "", text, flags=re.DOTALL)
            assert count == 1
        texts.append(text)
    assert texts[0] == texts[1]
