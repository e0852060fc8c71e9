# SPDX-License-Identifier: Apache-2.0
"""./serl policy export drqv2, convert-robobase and import flax: new directories, or one clear line."""

from pathlib import Path

import numpy as np
import pytest
from serl_cli.app import main
from serl_rl.foreign.robobase.files import DrQv2Checkpoint, read_drqv2, write_drqv2
from serl_rl.foreign.robobase.network import Architecture, DrQv2Network

SIZES = Architecture(("observation.images.wrist",), (24, 24), 2, 3, 4, 1, 3, 4, 3, 5, (6, 7), 2, 1)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SIZES.shapes.items()}
    write_drqv2(tmp_path / "policy", DrQv2Checkpoint(tmp_path, DrQv2Network(SIZES, tensors)))
    return tmp_path / "policy"


def test_both_commands_write_the_policy_and_nothing_over_it(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["policy", "export", "drqv2", str(policy), "--out", str(first)]) == 0
    assert main(["policy", "convert-robobase", "--input", str(first), "--output", str(second)]) == 0
    assert "pictures 24 x 24" in capsys.readouterr().out
    expected, found = read_drqv2(policy).network, read_drqv2(second).network
    assert found.architecture == expected.architecture == SIZES
    for name, values in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], values)
    before = (second / "model.safetensors").read_bytes()
    assert main(["policy", "export", "drqv2", str(policy), "--out", str(second)]) != 0
    assert "a new directory" in capsys.readouterr().err
    assert (second / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["export drqv2", "import flax"])
def test_what_is_no_checkpoint_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    source = tmp_path / "checkpoint_1"
    source.write_bytes(b"no checkpoint")
    assert main(["policy", *kind.split(), str(source), "--out", str(tmp_path / "out")]) != 0
    said = capsys.readouterr().err
    assert "checkpoint_1: expected" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
