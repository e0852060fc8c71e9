# SPDX-License-Identifier: Apache-2.0
"""Reads the directory of an ACT policy that LeRobot wrote, of 0.4 and later or of 0.3 and before.

From 0.4 on the statistics of normalisation lie beside the model, in files that `policy_preprocessor.json` and
`policy_postprocessor.json` name. Before, they lay within the model, as buffers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import ConfigError
from serl_config.text import shown

from serl_rl.foreign.act.config import ACTION, MAX_PARAMETERS, ActConfig, parse_config
from serl_rl.foreign.act.normalization import NEEDED, Normalization, Statistics, normalization
from serl_rl.foreign.act.parameters import PREFIX, parameter_count, parameter_shapes
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import check_shapes, read_json_object, read_tensors

CONFIG: Final = "config.json"
MODEL: Final = "model.safetensors"
PREPROCESSOR: Final = "policy_preprocessor.json"
POSTPROCESSOR: Final = "policy_postprocessor.json"
NORMALIZER: Final = "normalizer_processor"
UNNORMALIZER: Final = "unnormalizer_processor"

INPUT_STEPS: Final = ("rename_observations_processor", "to_batch_processor", "device_processor", NORMALIZER)
OUTPUT_STEPS: Final = (UNNORMALIZER, "device_processor")
"""Steps that are known, in the order in which LeRobot writes them. Another one might change what the policy does."""

Arrays = Mapping[str, NDArray[np.float32]]

_BUFFER = re.compile(r"(normalize_inputs|normalize_targets|unnormalize_outputs)\.buffer_(\w+)\.(\w+)")


@dataclass(frozen=True)
class ActCheckpoint:
    """An ACT policy as data."""

    config: ActConfig
    parameters: Arrays
    """Tensors of the network, named and shaped as `parameter_shapes` says."""
    statistics: Mapping[str, Statistics]
    """Of normalisation: statistics by the name of the feature; features may have none."""

    @property
    def normalizations(self) -> Mapping[str, Normalization]:
        """How each feature that the network takes or makes is normalised; features without statistics are not."""
        found = {}
        for name in self.config.features:
            mode = self.config.normalization(name) if name in self.statistics else "IDENTITY"
            found[name] = normalization(mode, self.statistics.get(name, {}))
        return found


def read_act(path: Path) -> ActCheckpoint:
    """The policy in a directory.

    Args:
        path: of the directory, which holds a `config.json`.

    Raises:
        ForeignError: a file is missing, damaged or of another policy, or its numbers do not fit the configuration.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise ForeignError(path, "the directory of a LeRobot ACT policy", found)
    inner = path / "pretrained_model"
    if not (path / CONFIG).exists() and (inner / CONFIG).exists():
        path = inner  # lerobot-train keeps the policy of a checkpoint in this folder
    config = _read_config(path / CONFIG)
    if (path / "adapter_config.json").exists():
        raise ForeignError(path, "a whole model", "an adapter to one (adapter_config.json)")
    model = path / MODEL
    tensors = read_tensors(model)
    buffers = {name: values for name, values in tensors.items() if not name.startswith(PREFIX)}
    named = {name.removeprefix(PREFIX): values for name, values in tensors.items() if name.startswith(PREFIX)}
    check_shapes(model, named, parameter_shapes(config))
    statistics = _statistics(path, config, buffers)
    return ActCheckpoint(config, MappingProxyType(named), MappingProxyType(statistics))


def check_statistics(source: Path | str, config: ActConfig, statistics: Mapping[str, Statistics]) -> None:
    """Raise ForeignError unless every feature that is normalised has the statistics for it, of its shape."""
    for feature, about in config.features.items():
        needed = NEEDED[config.normalization(feature)]
        shape = (about.shape[0], 1, 1) if about.type == "VISUAL" else about.shape
        for name in needed:
            if (values := statistics.get(feature, {}).get(name)) is None:
                mode = config.normalization(feature)
                raise ForeignError(source, f"{feature}.{name}, for the normalisation {mode}", "none")
            if values.shape != shape:
                raise ForeignError(source, f"{feature}.{name} of shape {shape}", str(values.shape))
            if not np.isfinite(values).all():
                raise ForeignError(source, f"finite numbers in {feature}.{name}", "infinite ones or NaN")


def _read_config(path: Path) -> ActConfig:
    tree = read_json_object(path)
    if (kind := tree.get("type")) != "act":
        found = f"{kind!r}" if "type" in tree else "no type: it is of another program, or of LeRobot before 0.1"
        raise ForeignError(path, "a policy of type 'act'", found)
    try:
        config = parse_config(tree, str(path))
    except ConfigError as error:
        problems = str(error).replace(f"{path}: ", "").split("\n")
        raise ForeignError(path, "the options of LeRobot's ACT policy", "; ".join(problems)) from error
    if (count := parameter_count(config)) > MAX_PARAMETERS:
        raise ForeignError(path, f"a network of at most {MAX_PARAMETERS} numbers", str(count))
    return config


def _statistics(path: Path, config: ActConfig, buffers: Arrays) -> dict[str, dict[str, NDArray[np.float32]]]:
    beside = [name for name in (PREPROCESSOR, POSTPROCESSOR) if (path / name).exists()]
    if beside and buffers:
        expected = "statistics beside the model, as from LeRobot 0.4 on, or within it, as before"
        raise ForeignError(path, expected, f"both: {beside[0]}, and {min(buffers)!r} in {MODEL}")
    if len(beside) == 1:
        missing = PREPROCESSOR if beside == [POSTPROCESSOR] else POSTPROCESSOR
        raise ForeignError(path, f"a file {missing}", f"only {beside[0]}: the directory is half written")
    if not beside and not buffers:
        expected = f"{PREPROCESSOR} and {POSTPROCESSOR}, or the statistics in {MODEL}"
        raise ForeignError(path, expected, "neither: the directory is half written")
    if buffers:
        return _from_buffers(path / MODEL, config, buffers)
    inputs = _from_step(path, PREPROCESSOR, INPUT_STEPS, NORMALIZER, config)
    outputs = _from_step(path, POSTPROCESSOR, OUTPUT_STEPS, UNNORMALIZER, config)
    statistics = inputs | {ACTION: outputs.get(ACTION, {})}
    check_statistics(path, config, statistics)
    for name, values in inputs.get(ACTION, {}).items():
        if name in NEEDED[config.normalization(ACTION)] and not np.array_equal(values, statistics[ACTION][name]):
            raise ForeignError(path, f"the same {ACTION}.{name} in both processors", "different ones")
    return {name: values for name, values in statistics.items() if values}


def _from_step(
    path: Path, name: str, known: tuple[str, ...], wanted: str, config: ActConfig
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The statistics of one of the two processors."""
    source = path / name
    steps = read_json_object(source).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ForeignError(source, "a list of steps", type(steps).__name__)
    if tuple(step.get("registry_name") for step in steps) != known:
        found = [str(step.get("registry_name", step.get("class"))) for step in steps]
        raise ForeignError(source, f"the steps {', '.join(known)}", ", ".join(found) or "none")
    settings = {
        name: _object(source, f"the config of {name}", step.get("config"))
        for name, step in zip(known, steps, strict=True)
    }
    renamed = settings.get(INPUT_STEPS[0], {}).get("rename_map")
    if renamed:
        raise ForeignError(source, "observations under their own names", f"a rename_map {renamed}")
    step = settings[wanted]
    modes = _object(source, "norm_map", step.get("norm_map"))
    for feature, about in config.features.items():
        mode = config.normalization(feature)
        if modes.get(about.type, "IDENTITY") != mode and (wanted == NORMALIZER or feature == ACTION):
            raise ForeignError(source, f"{mode} for {about.type}, as {CONFIG} says", str(modes.get(about.type)))
    if step.get("eps", 1e-8) != 1e-8 or step.get("normalize_observation_keys") is not None:
        raise ForeignError(source, "every feature normalised, with eps 1e-8", "other settings")
    file = next(each.get("state_file") for each in steps if each["registry_name"] == wanted)
    if file is None:
        return {}
    if not isinstance(file, str) or Path(file).name != file:
        raise ForeignError(source, "a state_file in the same directory", repr(file))
    statistics: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, values in read_tensors(path / file).items():
        feature, _, kind = key.rpartition(".")
        statistics.setdefault(feature, {})[kind] = values
    return statistics


def _object(source: Path, what: str, value: Any) -> dict[str, Any]:
    """A JSON object that may be left out. Raises ForeignError for anything else."""
    if value is not None and not isinstance(value, dict):
        raise ForeignError(source, f"{what}, an object", shown(value))
    return value or {}


def _from_buffers(source: Path, config: ActConfig, buffers: Arrays) -> dict[str, dict[str, NDArray[np.float32]]]:
    names = {feature.replace(".", "_"): feature for feature in config.features}
    statistics: dict[str, dict[str, NDArray[Any]]] = {}
    for key, values in buffers.items():
        match = _BUFFER.fullmatch(key)
        if match is None or match[2] not in names:
            raise ForeignError(source, "tensors of the network and of its normalisation", repr(key))
        if match[1] == "normalize_targets":
            continue  # the same as unnormalize_outputs; only training needs them
        statistics.setdefault(names[match[2]], {})[match[3]] = values
    check_statistics(source, config, statistics)
    return statistics
