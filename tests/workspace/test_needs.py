# SPDX-License-Identifier: Apache-2.0
"""What needs an optional package is refused in one line, with what brings it, before anything is started."""

import pytest
from serl_cli.app import main
from serl_launch.processes.runner import LaunchRunner

from serl_config import optional
from serl_launch import domain
from serl_rl import backends

OPTIONAL = (
    "torch", "wandb", "sdl2", "ompl", "ruckig", "mcap", "lerobot", "franky", "franky_sim", "piper_sdk", "trossen_arm",
)  # fmt: skip


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """None of the optional packages is there, and who starts something is found out."""
    there = optional.is_installed

    def is_installed(module):
        return module not in OPTIONAL and there(module)

    def started(*_, **__):
        pytest.fail("it began to start a graph")

    for module in (optional, backends):
        monkeypatch.setattr(module, "is_installed", is_installed)
    monkeypatch.setattr(domain, "claim", started)
    monkeypatch.setattr(LaunchRunner, "start", started)
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("train pick_cube --set backend=torch", "torch"),
        ("train pick_cube --wandb robots", "wandb"),
        ("train pick_cube --teleop gamepad --rtf 1", "gamepad"),
        ("train pick_cube_fr3 --hardware emulated", "franka"),
        ("train pick_cube_piper --hardware real --teleop spacemouse --reward human", "piper"),
        ("record pick_cube --raw bag", "recordings"),
        ("record pick_cube --teleop gamepad --rtf 1", "gamepad"),
        ("record pick_cube_trossen --hardware real --teleop spacemouse", "trossen"),
        ("teleop check gamepad", "gamepad"),
        ("teleop lead gamepad", "gamepad"),
        ("launch sim.launch.xml planner:=ompl", "planning"),
        ("launch sim.launch.xml teleop:=gamepad real_time_factor:=1.0", "gamepad"),
        ("launch sim.launch.xml task:=pick_cube learning:=learning.yaml", "torch"),
        ("launch sim.launch.xml task:=pick_cube_vision learning:=learning.yaml learner:=false", "torch"),
        ("launch learner.launch.xml task:=pick_cube learning:=learning.yaml", "torch"),
        ("launch real.launch.xml robot:=so101 task:=pick_cube driver:=so101_lerobot", "lerobot"),
        ("launch real.launch.xml robot:=fr3 task:=pick_cube", "franka"),
        ("launch arm.launch.xml task:=pick_cube_piper driver:=piper", "piper"),
    ],
)
def test_what_needs_a_package_is_refused_before_anything_starts(bare, capsys, command, extra):
    (bare / "learning.yaml").write_text("backend: torch\n")
    assert main(command.split()) == 2
    told = capsys.readouterr()
    (line,) = (told.out + told.err).strip().splitlines()
    assert f"./serl setup {extra} brings it" in line
    assert not (bare / "runs").exists()


def test_what_needs_none_is_not_refused(bare, monkeypatch):
    monkeypatch.setattr(LaunchRunner, "start", lambda self: None)
    monkeypatch.setattr(LaunchRunner, "wait", lambda self: None)
    (bare / "learning.yaml").write_text("backend: torch\n")
    for command in (
        "launch sim.launch.xml task:=pick_cube",
        "launch sim.launch.xml task:=pick_cube learning:=learning.yaml learner:=false",
        "launch sim.launch.xml task:=pick_cube_vision learning:=learning.yaml learning_nodes:=false",
        "launch real.launch.xml robot:=fr3 task:=pick_cube hardware:=mock driver:=none",
    ):
        assert main(command.split()) == 0, command
