# SPDX-License-Identifier: Apache-2.0
"""A graph by a keystore of SROS 2: it learns, and who has no key, or one for something else, sees and moves nothing.

Runs where Fast DDS and ROS 2 were built with security; docs/security.md says how that is done beside ROS 2 from pip.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="./serl setup link")
from running_training import online, wait_for
from serl_rl.spec import TransitionSpec
from serl_security.keystore import Keystore, make_keystore
from serl_security.permissions import Reach
from serl_security.plugins import missing_plugins
from serl_security.policy import load_policy

from serl_tasks import get_task

MISSING = missing_plugins()
pytestmark = [pytest.mark.graph, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

TASK = get_task("pick_cube")
SPEC = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
SERL = (sys.executable, "-m", "serl_cli")
OUTSIDER = Path(__file__).with_name("outsider.py")
ANYWHERE = {"nodes": [], "topics": [], "heard": 0, "matched": {}, "answered": []}
"""What somebody finds who is let in nowhere."""


@pytest.fixture
def keystore(ros_domain: int, tmp_path: Path) -> Keystore:
    return make_keystore(tmp_path / "keys", load_policy(), Reach((ros_domain,)), days=30)


def secured(keystore: Keystore) -> dict[str, str]:
    names = {"KEYSTORE": str(keystore.folder), "ENABLE": "true", "STRATEGY": "Enforce"}
    return {f"ROS_SECURITY_{name}": value for name, value in names.items()}


def outsider(processes: Any, environment: dict[str, str], enclave: str = "/script", seconds: float = 4.0) -> Any:
    """The process of a program that takes part for a while."""
    words = ("--ros-args", "--enclave", enclave)
    process = processes.start(sys.executable, OUTSIDER, str(seconds), *words, env=environment)
    process.wait(60.0)
    return process


def found(process: Any) -> dict[str, Any]:
    """What such a program has found."""
    line = next(line for line in process.output().splitlines() if line.startswith('{"nodes"'))
    result: dict[str, Any] = json.loads(line)
    return result


@pytest.mark.timeout(300)
def test_a_secured_graph_learns_and_is_seen_heard_and_moved_by_nobody_else(
    keystore: Keystore, processes: Any, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "secured"
    options = ("--no-report", "--eval-every", "100000", "--demos", "1", "--max-steps", "100000", "--name", "secured")
    command = (*SERL, "train", TASK.name, "--secure", keystore.folder, *options)
    training = processes.start("sh", "-c", f'cd "{tmp_path}" && exec "$@"', "sh", *command)
    wait_for(lambda: online(run, SPEC) > 60, training)
    assert "SECURITY" not in (run / "log" / "launch.log").read_text(), "nodes may do what they do"

    stranger = found(outsider(processes, {}))
    assert {name: stranger[name] for name in ANYWHERE} == ANYWHERE, "without keys"
    other = make_keystore(tmp_path / "other", load_policy(), keystore.reach)
    assert {**found(outsider(processes, secured(other))), "refused": {}} == {**ANYWHERE, "refused": {}}, "of others"

    script = found(outsider(processes, secured(keystore)))
    assert script["heard"] > 0, "what a script of one's own may read"
    assert {*script["refused"]} == {"target_pose", "gripper_controller/commands", "arm/estop", "arm/reset_estop"}
    before = online(run, SPEC)
    wait_for(lambda: online(run, SPEC) > before + 60, training)

    for words, code in ((["security", "audit"], 0), (["estop", "--graph", "secured"], 0)):
        assert processes.start(*SERL, *words, "--secure", keystore.folder).wait(60.0) == code
    refused = processes.start(*SERL, "reset-estop", "--graph", "secured")
    assert refused.wait(60.0) == 1, "without keys"
    assert "not released" in refused.output()
    before = online(run, SPEC)
    assert processes.start(*SERL, "reset-estop", "--graph", "secured", "--secure", keystore.folder).wait(60.0) == 0
    wait_for(lambda: online(run, SPEC) > before + 60, training)


def test_a_keystore_with_something_wrong_lets_no_node_start(keystore: Keystore, processes: Any, tmp_path: Path) -> None:
    ago = datetime.now(UTC) - timedelta(days=30)
    expired = make_keystore(tmp_path / "old", load_policy(), keystore.reach, days=1, now=ago, authorities=keystore)
    assert outsider(processes, secured(expired), seconds=1.0).wait() == 1
    assert outsider(processes, {**secured(keystore), "TZ": "Etc/GMT+12"}, seconds=1.0).wait() == 0
    for file, old, new in (
        ("permissions.p7s", b"rt/episode<", b"rt/target_pose<"),
        ("governance.p7s", b"<enable_write_access_control>true", b"<enable_write_access_control>false"),
    ):
        path = keystore.enclave_folder("/script") / file
        whole = path.read_bytes()
        path.write_bytes(whole.replace(old, new))
        process = outsider(processes, secured(keystore), seconds=1.0)
        assert process.wait() == 1, process.output()
        assert "PKCS7 data verification failed" in process.output()
        path.write_bytes(whole)
    elsewhere = {**secured(keystore), "ROS_DOMAIN_ID": str(keystore.reach.domains[0] + 1)}
    assert outsider(processes, elsewhere, seconds=1.0).wait() == 1
