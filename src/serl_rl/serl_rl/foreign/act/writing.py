# SPDX-License-Identifier: Apache-2.0
"""Writes the directory of an ACT policy as LeRobot 0.4 and later read it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serl_rl.foreign.act.config import ActConfig, config_tree
from serl_rl.foreign.act.directory import (
    CONFIG,
    INPUT_STEPS,
    MODEL,
    NORMALIZER,
    OUTPUT_STEPS,
    POSTPROCESSOR,
    PREPROCESSOR,
    UNNORMALIZER,
    ActCheckpoint,
    check_statistics,
)
from serl_rl.foreign.act.parameters import PREFIX, parameter_shapes
from serl_rl.foreign.directories import check_new, pack_model, write_directory
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import check_shapes
from serl_rl.storage.tensors import first_unbounded


def write_act(path: Path, checkpoint: ActCheckpoint) -> None:
    """Write a policy into a new directory, which appears whole or not at all.

    Args:
        path: of the directory; there must be nothing, or an empty directory.
        checkpoint: the policy.

    Raises:
        ForeignError: there is something already, or the policy's tensors or statistics do not fit its configuration.
        OSError: it cannot be written.
    """
    check_new(path)
    check_shapes(path, checkpoint.parameters, parameter_shapes(checkpoint.config))
    check_statistics(path, checkpoint.config, checkpoint.statistics)
    if name := first_unbounded(checkpoint.parameters):
        raise ForeignError(path, f"finite numbers in {name}", "infinite ones or NaN")
    write_directory(path, _files(checkpoint))


def _files(checkpoint: ActCheckpoint) -> dict[str, bytes]:
    config = dataclasses.replace(
        checkpoint.config, device="cpu", use_amp=False, push_to_hub=False, pretrained_path=None
    )
    statistics = {
        f"{feature}.{name}": values for feature, each in checkpoint.statistics.items() for name, values in each.items()
    }
    before, before_file = _processor(PREPROCESSOR, INPUT_STEPS, NORMALIZER, config)
    after, after_file = _processor(POSTPROCESSOR, OUTPUT_STEPS, UNNORMALIZER, config)
    model = {f"{PREFIX}{name}": values for name, values in checkpoint.parameters.items()}
    return {
        CONFIG: _json(config_tree(config)),
        MODEL: pack_model(model),
        PREPROCESSOR: _json(before),
        before_file: pack_model(statistics),
        POSTPROCESSOR: _json(after),
        after_file: pack_model(statistics),
    }


def _processor(file: str, steps: tuple[str, ...], stateful: str, config: ActConfig) -> tuple[dict[str, Any], str]:
    """The content of a processor's file, and the name of the file with its statistics."""
    name = file.removesuffix(".json")
    state_file = f"{name}_step_{steps.index(stateful)}_{stateful}.safetensors"
    tree = config_tree(config)
    features = tree["output_features"] if stateful == UNNORMALIZER else tree["input_features"] | tree["output_features"]
    settings: dict[str, dict[str, Any]] = {
        "rename_observations_processor": {"rename_map": {}},
        "to_batch_processor": {},
        "device_processor": {"device": "cpu", "float_dtype": None},
        stateful: {"eps": 1e-8, "features": features, "norm_map": tree["normalization_mapping"]},
    }
    listed = [{"registry_name": step, "config": settings[step]} for step in steps]
    return {
        "name": name,
        "steps": [each | ({"state_file": state_file} if each["registry_name"] == stateful else {}) for each in listed],
    }, state_file


def _json(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, indent=2).encode()
