# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest
from serl_launch.errors import CommandError, UsageError
from serl_launch.worlds import gym_python, world_arguments


def test_our_own_worlds_need_no_other_python() -> None:
    assert world_arguments("pick_cube") == {"world": "mujoco", "headless": "true"}
    assert world_arguments("lift_bar") == {"world": "mujoco", "headless": "true", "arms": "two"}
    assert world_arguments("pick_cube", viewer=True) == {"world": "mujoco", "headless": "false"}


def test_a_window_is_refused_where_the_world_has_none() -> None:
    with pytest.raises(UsageError, match="--viewer: the world of metaworld-reach-v3 is a Gymnasium environment"):
        world_arguments("metaworld-reach-v3", viewer=True)


def test_a_world_that_is_not_set_up_is_named_with_the_command_that_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(CommandError, match=r"the world metaworld is not set up: .* run ./serl setup gym metaworld"):
        world_arguments("metaworld-reach-v3")


def test_its_python_is_the_one_beside_that_of_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    python = tmp_path / ".venv-gym-metaworld/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert gym_python("metaworld") == python
    assert world_arguments("metaworld-reach-v3") == {"world": "gym", "gym_python": str(python)}
