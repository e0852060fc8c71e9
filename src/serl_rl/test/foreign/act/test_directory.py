# SPDX-License-Identifier: Apache-2.0
"""Directories of ACT policies: what is read is what was written, and what is damaged is refused by name."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from serl_rl.foreign.act.directory import MODEL, PREPROCESSOR, ActCheckpoint, read_act
from serl_rl.foreign.act.normalization import normalization
from serl_rl.foreign.act.parameters import is_trained, parameter_shapes
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.errors import ForeignError

from .checkpoints import random_checkpoint, small_config

NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("act") / "policy"
    write_act(path, random_checkpoint(small_config()))
    return path


@pytest.fixture
def directory(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "policy"))


def test_what_is_written_is_read(directory: Path) -> None:
    expected, found = random_checkpoint(small_config()), read_act(directory)
    assert found.config.cameras == ()
    assert found.config.chunk_size == 6
    _expect_same(found, expected)


def test_the_folder_of_a_training_run_is_read(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    directory.rename(tmp_path / "run" / "pretrained_model")
    _expect_same(read_act(tmp_path / "run"), random_checkpoint(small_config()))


def test_statistics_within_the_model_are_read(directory: Path) -> None:
    """LeRobot 0.3 and before."""
    expected = random_checkpoint(small_config())
    _to_buffers(directory, expected)
    _expect_same(read_act(directory), expected)


def test_an_existing_directory_is_not_written_over(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ForeignError, match="expected a new directory, found one that is not empty"):
        write_act(directory, random_checkpoint(small_config(), 1))
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert len(list(directory.parent.iterdir())) == 1


def test_nothing_is_written_of_a_policy_that_does_not_fit(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(small_config())
    wrong = dict(checkpoint.parameters, **{"action_head.bias": np.full(2, np.inf, np.float32)})
    with pytest.raises(ForeignError, match=r"finite numbers in action_head\.bias"):
        write_act(tmp_path / "policy", ActCheckpoint(checkpoint.config, wrong, checkpoint.statistics))
    assert not list(tmp_path.iterdir())


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tree = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**tree, **changes}))

    return change


def _without_option(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tree = json.loads((path / "config.json").read_text())
        del tree[name]
        (path / "config.json").write_text(json.dumps(tree))

    return change


def _tensors(file: str, function: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        arrays = safetensors.numpy.load_file(path / file)
        function(arrays)
        safetensors.numpy.save_file(arrays, path / file)

    return change


def _steps(function: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tree = json.loads((path / PREPROCESSOR).read_text())
        function(tree["steps"])
        (path / PREPROCESSOR).write_text(json.dumps(tree))

    return change


def _cut(file: str) -> Callable[[Path], None]:
    return lambda path: (path / file).write_bytes((path / file).read_bytes()[:-100])  # type: ignore[return-value]


def _remove(file: str) -> Callable[[Path], None]:
    return lambda path: (path / file).unlink()


HEAD, BIAS = "model.action_head.weight", "model.action_head.bias"

DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_remove("config.json"), "config.json: expected a file of JSON, found cannot be read"),
    "no model": (_remove(MODEL), "model.safetensors: expected a safetensors file, found cannot be read"),
    "no statistics": (_remove(NORMALIZER), "expected a safetensors file, found cannot be read"),
    "half of the processors": (_remove(PREPROCESSOR), "the directory is half written"),
    "config cut": (_cut("config.json"), "expected a file of JSON, found not valid JSON"),
    "model cut": (_cut(MODEL), "model.safetensors: expected a safetensors file"),
    "another policy": (_config(type="diffusion"), "expected a policy of type 'act', found 'diffusion'"),
    "before types": (_without_option("type"), "found no type: it is of another program, or of LeRobot before 0.1"),
    "no inputs": (_without_option("input_features"), "missing key 'input_features'"),
    "unknown option": (_config(n_experts=4), "unknown key 'n_experts'"),
    "unknown activation": (
        _config(feedforward_activation="glu"),
        "'feedforward_activation': expected 'relu' or 'gelu'",
    ),
    "unknown backbone": (_config(vision_backbone="vit"), "'vision_backbone': expected 'resnet18'"),
    "unknown mode": (_config(normalization_mapping={"STATE": "LOG"}), "normalization_mapping"),
    "heads": (_config(n_heads=3), "dim_model: expected a multiple of the 3 heads, found 16"),
    "steps and ensemble": (_config(temporal_ensemble_coeff=0.01), "n_action_steps: expected 1 where temporal_ensemble"),
    "more steps than a chunk": (_config(n_action_steps=7), "n_action_steps: expected at most chunk_size, 6, found 7"),
    "too large": (
        _config(dim_model=8192, n_heads=8, dim_feedforward=32768, n_encoder_layers=64),
        "a network of at most",
    ),
    "of another architecture": (_config(n_decoder_layers=2), "expected a tensor 'decoder.layers.1"),
    "chunk of another size": (_config(chunk_size=9), "vae_encoder_pos_enc of shape (1, 11, 16), found (1, 8, 16)"),
    "missing key": (_tensors(MODEL, lambda a: a.pop(BIAS)), "expected a tensor 'action_head.bias', found 1 missing"),
    "renamed key": (
        _tensors(MODEL, lambda a: a.__setitem__("model.head.bias", a.pop(BIAS))),
        "expected a tensor 'action_head.bias', found 1 missing, and instead of them 'head.bias'",
    ),
    "foreign key": (_tensors(MODEL, lambda a: a.__setitem__("model.x", a[BIAS])), "found 'x' too"),
    "NaN": (_tensors(MODEL, lambda a: a[BIAS].fill(np.nan)), "finite numbers in model.action_head.bias"),
    "shape": (_tensors(MODEL, lambda a: a.__setitem__(HEAD, a[HEAD].T.copy())), "action_head.weight of shape (2, 16)"),
    "both versions": (
        _tensors(MODEL, lambda a: a.__setitem__("unnormalize_outputs.buffer_action.mean", a[BIAS])),
        "found both: policy_preprocessor.json, and 'unnormalize_outputs.buffer_action.mean'",
    ),
    "no mean": (
        _tensors(NORMALIZER, lambda a: a.pop("observation.state.mean")),
        "expected observation.state.mean, for the normalisation MEAN_STD, found none",
    ),
    "statistics of another shape": (
        _tensors(UNNORMALIZER, lambda a: a.__setitem__("action.std", np.ones(7, np.float32))),
        "expected action.std of shape (2,), found (7,)",
    ),
    "processors of two policies": (
        _tensors(UNNORMALIZER, lambda a: a["action.std"].fill(9)),
        "expected the same action.std in both processors",
    ),
    "unknown step": (
        _steps(lambda steps: steps.insert(1, {"registry_name": "tokenizer", "config": {}})),
        "policy_preprocessor.json: expected the steps rename_observations_processor",
    ),
    "renamed observations": (
        _steps(lambda steps: steps[0]["config"].update(rename_map={"a": "b"})),
        "expected observations under their own names",
    ),
    "another norm_map": (
        _steps(lambda steps: steps[3]["config"]["norm_map"].update(STATE="MIN_MAX")),
        "expected MEAN_STD for STATE, as config.json says, found MIN_MAX",
    ),
    "a file elsewhere": (
        _steps(lambda steps: steps[3].update(state_file="../x.safetensors")),
        "expected a state_file in the same directory",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_directory_is_refused_by_name(directory: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    change(directory)
    with pytest.raises(ForeignError, match=re.escape(message)) as raised:
        read_act(directory)
    assert "\n" not in str(raised.value)


def test_a_foreign_buffer_is_refused(directory: Path) -> None:
    _to_buffers(directory, random_checkpoint(small_config()))
    _tensors(MODEL, lambda arrays: arrays.__setitem__("ema.bias", arrays[BIAS]))(directory)
    with pytest.raises(ForeignError, match=r"found 'ema\.bias'"):
        read_act(directory)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="expected the directory of a LeRobot ACT policy, found nothing there"):
        read_act(tmp_path / "nothing")


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"])
def test_what_is_normalised_is_restored(mode: Any) -> None:
    statistics = random_checkpoint(small_config()).statistics["observation.state"]
    each = normalization(mode, statistics)
    low = statistics[{"MIN_MAX": "min", "QUANTILES": "q01", "QUANTILE10": "q10"}.get(mode, "mean")]
    at_low = {"MEAN_STD": np.zeros(3), "IDENTITY": low}.get(mode, -np.ones(3))
    np.testing.assert_allclose(each.normalise(low), at_low, atol=1e-6)
    np.testing.assert_allclose(each.restore(each.normalise(low + 0.3)), low + 0.3, atol=1e-6)


def test_a_range_of_no_width_counts_as_a_tiny_one() -> None:
    same = np.full(2, 0.5, np.float32)
    each = normalization("MIN_MAX", {"min": same, "max": same})
    np.testing.assert_array_equal(each.normalise(same), [-1, -1])
    np.testing.assert_allclose(each.restore(np.ones(2, np.float32)), same, atol=1e-7)


def test_a_number_that_never_changed_stays_finite() -> None:
    each = normalization("MEAN_STD", {"mean": np.full(2, 0.5, np.float32), "std": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(each.normalise(np.full(2, 0.5, np.float32)), 0)


def test_frozen_normalisation_is_not_trained() -> None:
    config = small_config((("front", 32, 32),), vision_backbone="resnet50")
    frozen = {name for name in parameter_shapes(config) if not is_trained(name)}
    assert len(frozen) == 4 * 53 + 1  # the batch normalisations of a ResNet-50, and the positions
    assert all(
        shape[-1:] == shape
        for name, shape in parameter_shapes(config).items()
        if name in frozen - {"vae_encoder_pos_enc"}
    )


def _expect_same(found: ActCheckpoint, expected: ActCheckpoint) -> None:
    assert found.parameters.keys() == expected.parameters.keys()
    for name, values in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], values)
    for feature, statistics in expected.statistics.items():
        for name, values in statistics.items():
            np.testing.assert_array_equal(found.statistics[feature][name], values)


def _to_buffers(directory: Path, checkpoint: ActCheckpoint) -> None:
    """Change a directory into one as LeRobot 0.3 wrote it."""
    for path in directory.glob("policy_p*"):
        path.unlink()
    arrays = safetensors.numpy.load_file(directory / MODEL)
    for feature, statistics in checkpoint.statistics.items():
        for name, values in statistics.items():
            for module in (
                ("normalize_targets", "unnormalize_outputs") if feature == "action" else ("normalize_inputs",)
            ):
                arrays[f"{module}.buffer_{feature.replace('.', '_')}.{name}"] = values
    safetensors.numpy.save_file(arrays, directory / MODEL)
