# SPDX-License-Identifier: Apache-2.0
"""An ACT policy as one file of ours: what its directory holds, sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes
from serl_config.schema import ConfigError
from serl_config.strict_json import JsonError, parse_json

from serl_rl.foreign.act.config import config_tree, parse_config
from serl_rl.foreign.act.directory import ActCheckpoint, check_statistics, read_act
from serl_rl.foreign.act.parameters import PREFIX, parameter_shapes
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import MAX_TENSOR_BYTES, check_shapes
from serl_rl.spec import DataError
from serl_rl.storage import tensors

FORMAT: Final = "serl_act 1"
_METADATA: Final = "act"
_STATISTICS: Final = "statistics/"


def open_act(path: Path) -> ActCheckpoint:
    """The ACT policy in a directory of LeRobot's or a file of ours.

    Raises:
        ForeignError: it is neither, or damaged.
    """
    return read_act(path) if path.is_dir() or path.suffix != ".safetensors" else read_act_file(path)


def write_act_file(path: Path, checkpoint: ActCheckpoint) -> None:
    """Write a policy as one file, which appears whole or not at all.

    Args:
        path: of the file, which is replaced if it exists.
        checkpoint: the policy.

    Raises:
        ForeignError: its tensors or statistics do not fit its configuration.
        OSError: it cannot be written.
    """
    check_shapes(path, checkpoint.parameters, parameter_shapes(checkpoint.config))
    check_statistics(path, checkpoint.config, checkpoint.statistics)
    arrays: dict[str, NDArray[Any]] = {PREFIX + name: values for name, values in checkpoint.parameters.items()}
    for feature, each in checkpoint.statistics.items():
        arrays |= {f"{_STATISTICS}{feature}/{name}": values for name, values in each.items()}
    described = json.dumps({"format": FORMAT, "config": config_tree(checkpoint.config)})
    write_whole(path, tensors.pack(arrays, {_METADATA: described}))


def read_act_file(path: Path) -> ActCheckpoint:
    """The policy in a file that `write_act_file` wrote.

    Raises:
        ForeignError: there is no such file, or it is damaged, changed, or holds something else.
    """
    expected = "a file that ./serl policy import act wrote"
    try:
        arrays, metadata = tensors.unpack(read_bytes(path, MAX_TENSOR_BYTES))
        if _METADATA not in metadata:
            raise ForeignError(path, expected, "another safetensors file")
        tensors.expect_seal(metadata)
        tree = parse_json(metadata[_METADATA], size=tensors.HEADER_LIMIT)
        if not isinstance(tree, dict) or tree.get("format") != FORMAT or not isinstance(tree.get("config"), dict):
            raise ForeignError(path, FORMAT, "another format")
        config = parse_config(tree["config"], str(path))
    except FileError as error:
        raise ForeignError(path, expected, error.reason) from error
    except (JsonError, ConfigError) as error:
        raise ForeignError(path, expected, str(error)) from error
    except ForeignError:
        raise
    except DataError as error:
        raise ForeignError(path, error.expected, error.found) from error
    if (name := tensors.first_unbounded(arrays)) is not None:
        raise ForeignError(path, f"finite numbers in {name}", "infinite ones or NaN")
    parameters = {name.removeprefix(PREFIX): v for name, v in arrays.items() if not name.startswith(_STATISTICS)}
    statistics: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, values in arrays.items():
        if name.startswith(_STATISTICS):
            feature, _, kind = name.removeprefix(_STATISTICS).partition("/")
            statistics.setdefault(feature, {})[kind] = values
    check_shapes(path, parameters, parameter_shapes(config))
    check_statistics(path, config, statistics)
    frozen: Mapping[str, Mapping[str, NDArray[np.float32]]] = MappingProxyType(statistics)
    return ActCheckpoint(config, MappingProxyType(parameters), frozen)
