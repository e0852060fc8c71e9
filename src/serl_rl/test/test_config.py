# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from serl_rl.capacity import parse_bytes, transition_bytes, transitions_of
from serl_rl.config import LearningConfig, SACConfig
from serl_rl.spec import TransitionSpec

CONFIG = Path(__file__).resolve().parents[3] / "config" / "learning"


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_the_workspace_fit_and_name_their_agent(path):
    tree = yaml.safe_load(path.read_text())
    config = TypeAdapter(LearningConfig).validate_python(tree)
    assert tree["agent"] == config.agent
    assert tree["agent"] in tree  # with settings of its own


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"discount": 1.0}, "discount"),
        ({"discount": float("nan")}, "discount"),
        ({"critics": 0}, "critics"),
        ({"critics": 2, "critic_subset": 3}, "critic_subset"),
        ({"hidden_sizes": ()}, "hidden_sizes"),
        ({"hidden_sizes": (64, 0)}, "hidden_sizes"),
        ({"activation": "gelu"}, "activation"),
        ({"actor_lr": 0.0}, "actor_lr"),
        ({"target_rate": 0.0}, "target_rate"),
        ({"initial_temperature": -1.0}, "initial_temperature"),
        ({"target_entropy": float("inf")}, "target_entropy"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(changes, name):
    with pytest.raises(ValidationError, match=name):
        SACConfig(**changes)


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("500 MB", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("64KiB", 65536), ("7kB", 7000), ("9B", 9)],
)
def test_bytes_have_units(text, size):
    assert parse_bytes(text) == size
    assert LearningConfig(replay_capacity=text).replay_capacity == text


def test_bytes_are_transitions_as_they_are_stored():
    spec = TransitionSpec({"state": ((5,), "float32"), "wrist": ((4, 4, 3), "uint8")}, action_dim=2)
    assert transition_bytes(spec) == 4 * (2 + 1 + 1 + 5 + 5) + 48 * 33 / 32
    assert transitions_of("1MB", spec) == int(10**6 / 105.5)
    assert transitions_of(7, spec) == 7
    for text in ("50B", "1000TB"):
        with pytest.raises(ValueError, match=f"replay_capacity: expected bytes for 1 to .*found {text}"):
            transitions_of(text, spec)


@pytest.mark.parametrize(
    "wrong", ["20", "GB", "-1GB", "nanGB", "1e3GB", "0GB", "20gb", "9" * 16 + "TB", True, 1.5, [1], None]
)
def test_a_size_that_is_none_is_refused(wrong):
    with pytest.raises(ValidationError, match=r"replay_capacity\n.*expected .*bytes with a unit.*, found"):
        LearningConfig(replay_capacity=wrong)


def test_bytes_of_compressed_pictures_are_unknown():
    with pytest.raises(ValidationError, match=r"expected a number of transitions with vision\.storage: jpeg"):
        LearningConfig(replay_capacity="1GB", vision={"storage": "jpeg"})


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"utd_ratio": 0}, {"replay_capacity": 0}])
def test_learning_settings_are_checked(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        LearningConfig(**changes)


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValidationError, match="learning_rate"):
        TypeAdapter(LearningConfig).validate_python({"sac": {"learning_rate": 1e-3}})


def test_settings_can_be_static_arguments_of_jit():
    assert hash(SACConfig()) == hash(SACConfig())
    assert SACConfig(hidden_sizes=[8, 8]).hidden_sizes == (8, 8)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"agent": "ppo"}, "agent"),
        ({"agent": "vice", "training_starts": 0}, "vice compares demonstrations with own experience"),
        ({"agent": "vice", "updates_before_acting": 10}, "vice compares demonstrations with own experience"),
        ({"hybrid": {"grippers": []}}, "grippers"),
        ({"bc": {"chunk": 2, "execute": 3}}, "execute"),
        ({"acting": {"chunk": 2, "execute": 3}}, "execute: expected at most 2, the actions of a chunk, found 3"),
        ({"acting": {"chunk": 65}}, "chunk"),
        ({"agent": "bc", "acting": {"chunk": 2}}, "acting.chunk: expected 1 for bc, which has bc.chunk, found 2"),
        ({"vice": {"reward": "guess"}}, "reward"),
        ({"drqv2": {"noise_steps": 0}}, "noise_steps"),
    ],
)
def test_settings_of_further_agents_that_cannot_work_are_refused(changes, name):
    with pytest.raises(ValidationError, match=name):
        TypeAdapter(LearningConfig).validate_python(changes)
