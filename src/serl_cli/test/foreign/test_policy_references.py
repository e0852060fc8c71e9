# SPDX-License-Identifier: Apache-2.0
"""Policies on the command line that are none, or none for the task: one line, before anything is started or written."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from serl_cli.app import main
from serl_rl.foreign.act.config import ActConfig, ActFeature, config_tree
from serl_rl.foreign.act.initial import initial_parameters

TASK = "pick_cube"


def write_act(folder: Path) -> None:
    """A policy for a state of 3 numbers and a camera that the task does not have; of LeRobot 0.3."""
    inputs = {"observation.images.ceiling": ActFeature("VISUAL", (3, 32, 32))}
    inputs["observation.state"] = ActFeature("STATE", (3,))
    config = ActConfig(
        input_features=inputs,
        output_features={"action": ActFeature("ACTION", (2,))},
        chunk_size=2,
        n_action_steps=2,
        dim_model=8,
        n_heads=2,
        dim_feedforward=8,
        n_encoder_layers=1,
        use_vae=False,
        normalization_mapping={"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "MEAN_STD"},
    )
    tensors = {f"model.{name}": values for name, values in initial_parameters(config, 0).items()}
    for name, value in (("mean", 0.0), ("std", 1.0)):
        tensors[f"unnormalize_outputs.buffer_action.{name}"] = np.full(2, value, np.float32)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_tree(config)))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("policy", "expected serl:PATH or act:PATH"),
        ("act:", "expected serl:PATH or act:PATH"),
        ("act:nowhere", "a file or folder that exists"),
        ("act:file", "the directory of a LeRobot ACT policy, found a file"),
        ("act:empty", "config.json"),
        ("act:policy", "cameras.observation.images.ceiling: expected a camera of the task"),
        ("drqv2:policy", 'expected "type": "drqv2", found \'act\''),
        ("drqv2:file", "a file of torch.save"),
        ("lerobot_sac:policy", 'expected "type": "sac", found \'act\''),
        ("flax:file", "a checkpoint of flax or orbax"),
        ("serl:empty", "a run with a checkpoint"),
        ("serl:file", "file"),
    ],
)
@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_policy_that_is_none_for_the_task_is_named_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    reference: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no policy")
    write_act(tmp_path / "policy")
    before = sorted(tmp_path.rglob("*"))
    option = ["--name", "x", "--from-policy"] if command == "train" else ["--policy"]
    assert main([command, TASK, *option, reference]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
