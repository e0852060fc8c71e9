# SPDX-License-Identifier: Apache-2.0
"""`serl encoder`: recipes, a training from end to end, and the conversion of published weights."""

import pickle  # what is converted
import signal
from pathlib import Path

import numpy as np
import pytest
from serl_cli.app import main
from serl_cli.work.encoder_recipe import load_recipe
from serl_config.resources import find
from serl_config.schema import ConfigError

TINY = """
kind: small
task: pick_cube_vision
frames: 32
validation_frames: 8
training: {epochs: 1, batch_size: 16}
"""


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERL_DEBUG", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers


def nested(names: dict[str, tuple[int, ...]]) -> dict[str, dict]:
    """Random arrays as nested dictionaries."""
    rng = np.random.default_rng(0)
    tree: dict[str, dict] = {}
    for name, shape in names.items():
        *folders, last = name.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = rng.standard_normal(shape, np.float32)
    return tree


def test_the_shipped_weights_were_made_by_the_shipped_recipe() -> None:
    from dataclasses import asdict

    from serl_rl.encoders.file import read_encoder

    _, description = read_encoder(find("config/encoders/small.safetensors"))
    assert description is not None
    assert description.recipe == asdict(load_recipe("small"))


def test_a_wrong_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'smal'; did you mean 'small'"):
        load_recipe("smal")
    (tmp_path / "bad.yaml").write_text(TINY + "scenes: {looks: {lihgt: 1.0}}\n")
    assert main(["encoder", "train", "bad.yaml"]) == 1
    assert "unknown key 'scenes.looks.lihgt'; did you mean 'light'" in capsys.readouterr().err
    for change, message in (("kind: vgg", "found 'vgg'"), ("task: pick_cube", "expected cameras")):
        (tmp_path / "bad.yaml").write_text(
            "\n".join(change if line.startswith(change[:5]) else line for line in TINY.splitlines())
        )
        assert main(["encoder", "train", "bad.yaml"]) == 1
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_training_writes_a_file_that_says_how_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serl_rl.config import EncoderConfig
    from serl_rl.encoders.file import read_encoder
    from serl_rl.encoders.loading import load_encoder

    (tmp_path / "tiny.yaml").write_text(TINY)
    assert main(["encoder", "train", "tiny.yaml", "--seed", "4"]) == 0
    shown = capsys.readouterr().out
    _, description = read_encoder(tmp_path / "tiny.safetensors")
    assert description is not None
    assert (description.kind, description.seed, description.worlds) == ("small", 4, ("table",))
    assert description.cameras == ("front", "wrist")
    assert description.recipe["training"]["batch_size"] == 16
    assert {"plain/front/cube_position_mm", "random/wrist/cube_from_tcp_mm"} <= description.metrics.keys()
    assert "plain/wrist/cube_position_mm" not in description.metrics
    assert "front/cube_position_mm" in shown
    encoder = load_encoder(EncoderConfig(weights=str(tmp_path / "tiny.safetensors")), ["front"], find, world=None)
    assert encoder.hash == description.hash
    assert description.hash in shown

    assert main(["encoder", "train", "tiny.yaml"]) == 1
    assert "tiny.safetensors exists" in capsys.readouterr().err


def test_pytorch_trains_one_and_is_asked_for_where_it_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serl_rl.encoders.loading import load_file

    from serl_rl import backends

    (tmp_path / "tiny.yaml").write_text(TINY)
    with monkeypatch.context() as changed:
        changed.setattr(backends, "is_installed", lambda name: False)
        assert main(["encoder", "train", "tiny.yaml", "--backend", "torch"]) == 1
    assert "./serl setup torch" in capsys.readouterr().err
    assert not (tmp_path / "tiny.safetensors").exists()
    pytest.importorskip("torch", reason="./serl setup torch")
    assert main(["encoder", "train", "tiny.yaml", "--backend", "torch"]) == 0
    assert load_file(tmp_path / "tiny.safetensors", "small").hash in capsys.readouterr().out


def test_published_weights_are_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serl_rl.config import EncoderConfig
    from serl_rl.encoders.architecture import parameter_shapes
    from serl_rl.encoders.loading import load_encoder
    from serl_rl.encoders.resnet_params import sha256

    source = tmp_path / "resnet10_params.pkl"
    tree = nested(dict(parameter_shapes("resnet10"))) | {"head": {"kernel": np.zeros((3, 4), np.float32)}}
    source.write_bytes(pickle.dumps(tree))
    assert main(["encoder", "convert", str(source)]) == 0
    shown = capsys.readouterr().out
    assert sha256(source) in shown
    assert "left out" in shown
    assert "head/kernel" in shown
    config = EncoderConfig(kind="resnet10", weights=str(tmp_path / "resnet10_params.safetensors"))
    encoder = load_encoder(config, [], find, world=None)
    kernel = tree["ResNetBlock_2"]["conv_proj"]["kernel"]
    np.testing.assert_allclose(encoder.weights["ResNetBlock_2/conv_proj/kernel"], kernel, rtol=1e-3, atol=1e-6)


def test_what_cannot_be_converted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serl_rl.encoders.architecture import parameter_shapes

    source = tmp_path / "other.pkl"
    tree = nested(dict(parameter_shapes("resnet10")))
    tree["ResNetBlock_1"].pop("Conv_0")
    for content, message in (
        (tree, "expected a parameter ResNetBlock_1/Conv_0/kernel"),
        ({"a": print}, "found the name"),
    ):
        source.write_bytes(pickle.dumps(content))
        assert main(["encoder", "convert", str(source)]) == 1
        assert message in capsys.readouterr().err
    source.write_bytes(pickle.dumps(tree)[:-1000])
    assert main(["encoder", "convert", str(source), "--out", "x.bin"]) == 1
    assert "ends in .safetensors" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))


def test_an_import_says_how_to_get_what_it_needs_or_makes_a_small_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from serl_rl.encoders.efficientnet_params import published_file
    from serl_rl.encoders.file import EncoderError
    from serl_rl.encoders.loading import load_file

    path = tmp_path / "efficientnet_lite0.safetensors"
    try:
        published_file()
    except EncoderError:
        assert main(["encoder", "import", "efficientnet_lite0"]) == 1
        assert "install it: ./serl setup efficientnet" in capsys.readouterr().err
        assert not path.exists()
        return
    assert main(["encoder", "import", "efficientnet_lite0", "--stage", "3"]) == 0
    encoder = load_file(path, "efficientnet_lite0_3")
    assert encoder.feature_shape(128, 128) == (4, 4, 40)
    assert encoder.hash in capsys.readouterr().out


def test_what_cannot_be_adapted_to_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["none.serl"], "none.serl: there is no such file; ./serl record makes one"),
        (["none.serl", "--start", "smal"], "--start smal: expected random, a name in config/encoders"),
        (["no_run"], "no_run"),
    ):
        assert main(["encoder", "adapt", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("adapted.*"))
