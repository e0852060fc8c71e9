# SPDX-License-Identifier: Apache-2.0
"""A goal brings its result, exactly one, through silences that last longer than peers remember each other."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.graph

HERE = Path(__file__).parent


@pytest.mark.parametrize("who", ["client", "actor", "both"])
def test_a_result_comes_through_a_silence(
    ros_domain: int, processes: Any, tmp_path: Path, wait_until: Callable[..., None], who: str
) -> None:
    profile = tmp_path / "profile.xml"
    text = Path(os.environ["FASTDDS_DEFAULT_PROFILES_FILE"]).read_text()
    assert "<sec>5</sec>" in text  # how long a peer without contact is remembered
    profile.write_text(text.replace("<sec>5</sec>", "<sec>1</sec>"))
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    environment = {**dict.fromkeys(names, str(profile)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    goals = tmp_path / "goals"
    actor = processes.start(sys.executable, HERE.parent / "stand_in_actor.py", "slow", goals, env=environment)
    client = processes.start(sys.executable, HERE / "stand_in_client.py", env=environment)
    wait_until(lambda: "feedback" in client.output())
    stopped = {"client": [client], "actor": [actor], "both": [client, actor]}[who]
    for process in stopped:
        process.send(signal.SIGSTOP)
    goals.with_suffix(".go").touch()
    if who == "client":
        # The result is there, and nobody took it; before there was a client it was alone, too.
        wait_until(lambda: "alone" in actor.output().partition("finishing")[2])
    elif who == "actor":
        wait_until(lambda: "lost" in client.output())
        wait_until(lambda: "report: nothing heard from the action /train" in client.output())
    else:
        signal.sigtimedwait([], 2.5)  # each is to have forgotten the other, which neither can tell us
    for process in stopped:
        process.send(signal.SIGCONT)
    wait_until(lambda: "result goal" in client.output() or client.poll() is not None, 60.0)
    assert client.wait() == 0, client.output()
    assert client.output().count("result") == 1
    assert len(goals.read_text().split()) == 1
