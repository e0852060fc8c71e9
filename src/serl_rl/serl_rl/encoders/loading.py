# SPDX-License-Identifier: Apache-2.0
"""Finds the weights that a configuration asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from serl_rl.config import EncoderConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderDescription, EncoderError, read_encoder

FOLDER = "config/encoders"
"""Where shipped weights lie: a file NAME.safetensors for each."""

ANY_WORLD = "*"
"""The world of pictures of which nobody noted where they were taken; no world has this name."""

_log = logging.getLogger(__name__)


def load_encoder(
    config: EncoderConfig, cameras: Sequence[str], find: Callable[[str], Path], *, world: str | None
) -> Encoder:
    """The encoder that a configuration asks for.

    Args:
        config: its `weights` are "auto" for the shipped ones, which must have been trained for `world` and all of
            `cameras`, or for random ones where none of this kind are shipped; "random"; a name in config/encoders; or
            the path of a safetensors file. Only "auto" looks at what weights were trained for.
        cameras: whose pictures it is for.
        find: from "config/encoders/NAME.safetensors" to the file; raises FileNotFoundError where there is none.
        world: the simulated world that the pictures show, None where the cameras are real, `ANY_WORLD` where nobody
            knows.

    Raises:
        EncoderError: there is no such file, or it is damaged or of another structure; or what is shipped was trained
            for another world or other cameras.
    """
    if config.weights == "random":
        return Encoder.random(config.kind, config.seed)
    if config.weights == "auto":
        return _shipped_for(world, cameras, config, find) or Encoder.random(config.kind, config.seed)
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


def load_same(kind: str, digest: str, find: Callable[[str], Path]) -> Encoder:
    """The encoder that somebody once got by `weights: auto`: of what that may have been, the one with this hash.

    Args:
        kind: of the network.
        digest: the hash of the encoder that is looked for.
        find: as for `load_encoder`.

    Returns:
        The shipped encoder or the random one of seed 0; where neither has the hash, the shipped one if there is one.

    Raises:
        EncoderError: the shipped file is damaged or of another structure.
    """
    path = _find_shipped(kind, find)
    shipped = None if path is None else load_file(path, kind)
    if shipped is not None and shipped.hash == digest:
        return shipped
    drawn = Encoder.random(kind, 0)
    return drawn if shipped is None or drawn.hash == digest else shipped


def _shipped_for(
    world: str | None, cameras: Sequence[str], config: EncoderConfig, find: Callable[[str], Path]
) -> Encoder | None:
    path = _find_shipped(config.kind, find)
    if path is None:
        _log.warning("no weights of a %s encoder are shipped: it gets random ones, seed %d", config.kind, config.seed)
        return None
    _, description = read_encoder(path)
    if description is None:
        found = "a file that does not say what it was trained for"
    elif _fits(description, world, cameras):
        return load_file(path, config.kind)
    else:
        found = f"some trained for {_pictures(description.worlds, description.cameras)}"
    raise EncoderError(
        path,
        f"weights for {_pictures(() if world is None else (world,), cameras)}",
        f"{found}; vision.encoder.weights (of ./serl reward train: --weights) may be {path.stem}, which takes them all "
        "the same, random, or a file that ./serl encoder train makes",
    )


def _find_shipped(kind: str, find: Callable[[str], Path]) -> Path | None:
    try:
        return find(f"{FOLDER}/{kind}.safetensors")
    except FileNotFoundError:
        return None


def _fits(description: EncoderDescription, world: str | None, cameras: Sequence[str]) -> bool:
    if not set(cameras) <= set(description.cameras):
        return False
    if world is None:
        return not description.worlds
    return world == ANY_WORLD or world in description.worlds


def _pictures(worlds: Sequence[str], cameras: Sequence[str]) -> str:
    """What pictures are of, for people; no worlds: real cameras."""
    seen_by = f"the cameras {', '.join(cameras)}" if cameras else "no camera in particular"
    if not worlds:
        return f"real cameras ({seen_by})"
    of = "any world" if ANY_WORLD in worlds else f"the world {', '.join(worlds)}"
    return f"{of} and {seen_by}"
