# SPDX-License-Identifier: Apache-2.0
"""Finds the weights that a configuration asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from serl_rl.config import EncoderConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError, read_encoder

FOLDER = "config/encoders"
"""Where shipped weights lie: a file NAME.safetensors for each."""

_log = logging.getLogger(__name__)


def load_encoder(config: EncoderConfig, cameras: Sequence[str], find: Callable[[str], Path]) -> Encoder:
    """The encoder that a configuration asks for.

    Args:
        config: its `weights` are "auto" for the shipped ones if they were trained for all of `cameras`, else random
            ones; "random"; a name in config/encoders; or the path of a safetensors file.
        cameras: whose pictures it is for.
        find: from "config/encoders/NAME.safetensors" to the file; raises FileNotFoundError where there is none.

    Raises:
        EncoderError: there is no such file, or it is damaged or of another structure.
    """
    if config.weights == "random":
        return Encoder.random(config.kind, config.seed)
    if config.weights == "auto":
        return _shipped_for(cameras, config, find) or Encoder.random(config.kind, config.seed)
    if config.weights.endswith(".safetensors"):
        return load_file(Path(config.weights), config.kind)
    try:
        path = find(f"{FOLDER}/{config.weights}.safetensors")
    except FileNotFoundError as error:
        raise EncoderError(
            "encoder.weights", f"auto, random, a name in {FOLDER} or a path that ends in .safetensors", str(error)
        ) from error
    return load_file(path, config.kind)


def load_file(path: Path, kind: str) -> Encoder:
    """The encoder of a file that `write_encoder` or anybody else wrote.

    Raises:
        EncoderError: there is no such file, or it is damaged or not of this kind.
    """
    weights, description = read_encoder(path)
    if description is not None and description.kind != kind:
        raise EncoderError(path, f"weights of a {kind} encoder", f"those of a {description.kind} encoder")
    return Encoder.from_weights(kind, weights, str(path))


def _shipped_for(cameras: Sequence[str], config: EncoderConfig, find: Callable[[str], Path]) -> Encoder | None:
    try:
        path = find(f"{FOLDER}/{config.kind}.safetensors")
    except FileNotFoundError:
        _log.warning("no weights of a %s encoder are shipped: it gets random ones, seed %d", config.kind, config.seed)
        return None
    _, description = read_encoder(path)
    trained_for = description.cameras if description else ()
    if unknown := sorted(set(cameras) - set(trained_for)):
        reason = f"{path.name} was not trained for the cameras {', '.join(unknown)}"
        _log.warning("%s: the encoder gets random weights, seed %d", reason, config.seed)
        return None
    return load_file(path, config.kind)
