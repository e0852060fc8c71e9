# SPDX-License-Identifier: Apache-2.0
"""``serl policy``: an ACT policy goes in and comes out as it was."""

import json
from pathlib import Path

import numpy as np
import pytest
from serl_cli.app import main
from serl_rl.foreign.act.config import ActConfig, ActFeature
from serl_rl.foreign.act.directory import ActCheckpoint, read_act
from serl_rl.foreign.act.file import read_act_file
from serl_rl.foreign.act.parameters import parameter_shapes
from serl_rl.foreign.act.writing import write_act


def _policy() -> ActCheckpoint:
    config = ActConfig(
        input_features={
            "observation.state": ActFeature("STATE", (3,)),
            "observation.environment_state": ActFeature("ENV", (4,)),
        },
        output_features={"action": ActFeature("ACTION", (2,))},
        chunk_size=5,
        n_action_steps=2,
        dim_model=8,
        n_heads=2,
        dim_feedforward=8,
        n_encoder_layers=1,
        use_vae=False,
    )
    rng = np.random.default_rng(0)
    parameters = {n: rng.normal(size=shape).astype(np.float32) for n, shape in parameter_shapes(config).items()}
    statistics = {
        name: {kind: rng.uniform(0.5, 1, feature.shape).astype(np.float32) for kind in ("mean", "std")}
        for name, feature in config.features.items()
    }
    return ActCheckpoint(config, parameters, statistics)


def test_a_policy_comes_out_as_it_went_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_act(tmp_path / "theirs", _policy())
    file, again = tmp_path / "ours.safetensors", tmp_path / "again"
    assert main(["policy", "import", "act", str(tmp_path / "theirs"), "--out", str(file)]) == 0
    assert "observation.state: 3 numbers, normalised by MEAN_STD" in capsys.readouterr().out
    assert main(["policy", "export", "act", str(file), "--out", str(again)]) == 0
    for path in (tmp_path / "theirs").iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes() or path.suffix == ".safetensors"
    expected, found = read_act(tmp_path / "theirs"), read_act(again)
    for name, values in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], values)
    np.testing.assert_array_equal(found.statistics["action"]["std"], expected.statistics["action"]["std"])


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_act(tmp_path / "theirs", _policy())
    file = tmp_path / "ours.safetensors"
    file.write_text("mine")
    assert main(["policy", "import", "act", str(tmp_path / "theirs"), "--out", str(file)]) == 1
    assert "ours.safetensors exists: choose another --out, or --force to replace it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main(["policy", "export", "act", str(tmp_path / "theirs"), "--out", str(tmp_path / "theirs")]) == 1
    assert "expected a new directory, found one that is not empty" in capsys.readouterr().err


def test_a_damaged_policy_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_act(tmp_path / "theirs", _policy())
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_experts": 2}))
    assert main(["policy", "import", "act", str(tmp_path / "theirs"), "--out", str(tmp_path / "x.safetensors")]) == 1
    error = capsys.readouterr().err
    assert "unknown key 'n_experts'" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()


def test_a_changed_file_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_act(tmp_path / "theirs", _policy())
    file = tmp_path / "ours.safetensors"
    assert main(["policy", "import", "act", str(tmp_path / "theirs"), "--out", str(file)]) == 0
    assert read_act_file(file).config.chunk_size == 5
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert main(["policy", "export", "act", str(file), "--out", str(tmp_path / "again")]) == 1
    assert "they were changed" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
