# SPDX-License-Identifier: Apache-2.0
"""./serl config import: what LeRobot's HIL-SERL was told becomes a task and learning settings, or one clear line."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from serl_cli.app import main
from serl_config.schema import build
from serl_rl.config import LearningConfig

SEED: dict[str, Any] = {
    "policy": {
        "type": "drqv2",
        "pretrained_path": "models/drqv2_sim_pretrained",
        "frame_stack": 3,
        "stddev_schedule": "linear(1.0,0.1,500000)",
        "mlp_nodes": [256, 256],
        "input_features": {
            "observation.images.gripper_cam": {"shape": [9, 84, 84]},
            "observation.state": {"shape": [54]},
        },
    },
    "reward_classifier": {"repo_id": "somebody/classifier"},
    "env": {
        "fps": 10,
        "robot": {
            "type": "so101_follower_end_effector",
            "cameras": {"gripper_cam": {"width": 640, "height": 480}},
            "action_scale": 0.02,
        },
        "wrapper": {
            "add_full_proprioception": True,
            "control_mode": "leader",
            "control_time_s": 20,
            "crop_params_dict": {"observation.images.gripper_cam": [0, 80, 480, 480]},
        },
    },
}
NEWER: dict[str, Any] = {
    "batch_size": 256,
    "seed": 7,
    "policy": {
        "type": "sac",
        "num_discrete_actions": 3,
        "discount": 0.97,
        "critic_lr": 3e-4,
        "use_backup_entropy": False,
        "num_critics": 2,
        "num_subsample_critics": None,
        "actor_network_kwargs": {"hidden_dims": [256, 256], "activate_final": True},
        "critic_network_kwargs": {"hidden_dims": [128, 128]},
        "actor_learner_config": {"learner_host": "127.0.0.1", "learner_port": 50051},
        "input_features": {"observation.images.front": {"shape": [3, 128, 128]}},
    },
    "env": {
        "fps": 20,
        "processor": {
            "gripper": {"use_gripper": True, "gripper_penalty": -0.02},
            "reset": {"control_time_s": 10.0, "terminate_on_success": True},
            "inverse_kinematics": {
                "end_effector_bounds": {"min": [0.3, -0.2, 0.02], "max": [0.6, 0.2, 0.3]},
                "end_effector_step_sizes": {"x": 0.02, "y": 0.03, "z": 0.01},
            },
        },
    },
}


def run(folder: Path, settings: Any, *options: str, name: str = "mine") -> int:
    source = folder / f"{name}.json"
    source.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return main(["config", "import", str(source), "--out", str(folder), *options])


def written(folder: Path, name: str = "mine") -> tuple[dict[str, Any], dict[str, Any]]:
    files = (folder / "config" / kind / f"{name}.yaml" for kind in ("tasks", "learning"))
    task, learning = (yaml.safe_load(file.read_text()) for file in files)
    return task, learning


def test_a_drqv2_configuration_of_the_fork(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, SEED) == 0
    task, learning = written(tmp_path)
    config = build(LearningConfig, learning, "learning")
    assert (config.agent, config.drqv2.hidden_sizes, config.vision.frame_stack) == ("drqv2", (256, 256), 3)
    assert (config.drqv2.noise_start, config.drqv2.noise_end, config.drqv2.noise_steps) == (1.0, 0.1, 500_000)
    assert task["extends"] == "pick_cube_vision_so101"
    assert (task["control_period"], task["horizon"], task["action"]["scale"][:3]) == (0.1, 200, [0.02] * 3)
    # [top, left, height, width] in pixels of 640 x 480
    assert task["cameras"] == {"gripper_cam": {"size": [84, 84], "crop": [0.125, 0.0, 0.75, 1.0]}}
    said = capsys.readouterr().out
    assert "--from-policy drqv2:models/drqv2_sim_pretrained" in said
    assert "reward_classifier.repo_id = somebody/classifier -> nothing" in said
    assert "observation.state = {'shape': [54]} -> nothing" in said


def test_a_sac_configuration_of_lerobot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, NEWER, "--task", "pick_cube_vision") == 0
    task, learning = written(tmp_path)
    config = build(LearningConfig, learning, "learning")
    assert (config.agent, config.batch_size, config.sac.discount) == ("hybrid", 256, 0.97)
    assert (config.sac.hidden_sizes, config.sac.critic_subset) == ((256, 256), 0)
    assert config.hybrid.grasp_penalty == 0.02
    assert (task["control_period"], task["horizon"]) == (0.05, 200)
    assert task["action"]["scale"][:3] == [0.02, 0.03, 0.01]
    assert task["limits"]["workspace_min"] == [0.3, -0.2, 0.02]
    said = capsys.readouterr().out
    assert "critic_network_kwargs.hidden_dims = [128, 128] -> nothing: actor and critics have the same widths" in said
    assert "seed = 7 -> command: --seed 7" in said
    assert "learner_port = 50051 -> nothing" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": {"type": "act"}}, "policy.type: expected sac or drqv2"),
        ({"policy": {"type": ["sac"]}}, "policy.type: expected sac or drqv2"),
        ({"policy": {"type": "drqv2", "stddev_schedule": 10**400}}, "policy.stddev_schedule: expected a number"),
        ({"policy": {"type": "sac", "temperature": 1}}, "policy.temperature: expected a setting of LeRobot"),
        ({"policy": {"type": "sac", "discount": 2.0}}, "policy.discount: expected a number from 0 to"),
        ({"policy": {"type": "sac", "discount": "0.9"}}, "policy.discount: expected a number"),
        ({"policy": {"type": "drqv2", "stddev_schedule": "fast"}}, "policy.stddev_schedule"),
        ({"env": {"wrapper": {"crop_params_dict": {"observation.images.top": [0, 0, 9, 9]}}}}, "one of the cameras"),
        ({"env": {"fps": 10, "wrapper": {"control_time_s": -1}}}, "control_time_s"),
        ({"model": 3}, "expected settings with policy or env"),
        ("{", "JSON"),
    ],
)
def test_nothing_is_written_where_a_setting_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: Any, message: str
) -> None:
    assert run(tmp_path, settings) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "config").exists()


def test_settings_that_are_lists_where_words_are_expected_have_no_counterpart(tmp_path: Path) -> None:
    assert run(tmp_path, {"env": {"wrapper": {"control_mode": ["gamepad"]}}}) == 0


def test_of_two_files_none_is_left_where_one_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tasks").touch()
    assert run(tmp_path, {"policy": {"type": "sac", "discount": 0.5}}) != 0
    assert "cannot be written" in capsys.readouterr().err
    assert not list((tmp_path / "config" / "learning").iterdir())


def test_unknown_settings_can_be_listed_and_files_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, {"policy": {"type": "sac", "temperature": 1}}, "--skip-unknown") == 0
    assert "policy.temperature = 1 -> nothing: unknown here" in capsys.readouterr().out
    before = written(tmp_path)
    assert run(tmp_path, {"policy": {"type": "sac", "discount": 0.5}}) != 0
    assert "exists" in capsys.readouterr().err
    assert written(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b'{"policy": {"type": "\xff\xfe"}}', "UTF-8"),
        (b" " * 2**21, "at most 1 MiB, found 2 MiB"),
        (b"", "JSON"),
        (b"[" * 100_000, "deep"),
        (b"[]", "expected settings with policy or env"),
        (b'{"policy": 3}', "policy"),
    ],
    ids=["missing", "not UTF-8", "huge", "empty", "deep", "a list", "wrong type"],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    source = tmp_path / "mine.json"
    if content is not None:
        source.write_bytes(content)
    assert main(["config", "import", str(source), "--out", str(tmp_path)]) != 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and message.lower() in said.err.lower(), said.err
    assert not said.out
    assert not (tmp_path / "config").exists()
