# SPDX-License-Identifier: Apache-2.0
"""The simulated graph with somebody else than the truth as its judge, and frames recorded from it."""

from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from serl_cli.reward.keys import pressed_keys
from serl_launch.graph_session import GraphSession
from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.reward.classifier import RewardClassifier
from serl_rl.reward.data import RewardDataFile, RewardEpisode, read_reward_data
from serl_training.env.graph_env import GraphEnv
from serl_training.reward.graph_recorder import FrameListener, drive_episode
from serl_training.reward.reward_frames import frame_source

from serl_tasks import get_task

pytestmark = pytest.mark.graph

TASK = get_task("pick_cube_vision")
SOURCE = frame_source(TASK)


def believer(path: Path) -> Path:
    """A classifier that takes everything for a success, three times in a row."""
    config = RewardClassifierConfig(weights="random", consecutive=3)
    untrained = RewardClassifier.untrained(SOURCE, config, Encoder.random("small", 0))
    object.__setattr__(untrained.info, "thresholds", (0.0,))
    untrained.save(path)
    return path


def test_a_classifier_is_the_only_judge_and_frames_are_labelled_by_the_truth(ros_domain, tmp_path):
    classifier = believer(tmp_path / "believer.safetensors")
    arguments = {
        "task": "pick_cube_vision",
        "teleop": "none",
        "learning_nodes": "false",
        "reward": "classifier",
        "classifier": str(classifier),
    }
    heard: list[RewardEpisode] = []
    with GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        node, executor = session.client.node, session.client.executor
        env = GraphEnv(TASK, node=node, executor=executor, reset_timeout=60.0)
        env.reset(seed=0)
        env.step(np.zeros(4, np.float32))  # a judge that has just joined may miss the first pictures
        second = []
        for episode in range(1, 6):
            env.reset(seed=episode)
            ends = [env.step(np.zeros(4, np.float32))[2] for _ in range(4)]
            second.append(ends.pop(1))
            assert ends == [False, True, True], episode
        # The state after the reset is judged too: it is the first of the three. Nobody waits for that, so where the
        # judge gets its turn late the picture after it has taken its place.
        assert any(second)
        listener = FrameListener(node, TASK, SOURCE, "truth", heard.append)
        driven = drive_episode(env, SOURCE, 10, seed=0, frames=25)
        executor.spin_until(lambda: listener.frames > 0, 1.0)
        listener.finish()
    assert len(driven) == 25
    assert driven.decode("front").std() > 10.0
    assert driven.labelled_by == "truth"
    with RewardDataFile(tmp_path / "a.frames", SOURCE) as file:
        file.append(driven)
    assert len(read_reward_data([tmp_path / "a.frames"])) == 1
    (listened,) = heard
    assert len(listened) >= 5, "it may miss some, as it never keeps the world waiting"


def test_keys_are_read_as_they_are_pressed(monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with pressed_keys() as read:
            assert read() == ""
            os.write(ours, b"s")
            os.write(ours, b"f")
            pressed, deadline = "", time.monotonic() + 5.0
            while pressed != "sf" and time.monotonic() < deadline:
                pressed += read()  # what is written to one end need not be at the other at once
            assert pressed == "sf"
    os.close(ours)
