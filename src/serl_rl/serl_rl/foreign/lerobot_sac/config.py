# SPDX-License-Identifier: Apache-2.0
"""Reads `config.json` of LeRobot's policies of HIL-SERL: what they look at, and the options that change the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from serl_rl.foreign.directories import CONFIG, MODEL
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_json_object

IMAGE: Final = "observation.image"
STATE: Final = "observation.state"
ENVIRONMENT: Final = "observation.environment_state"
RESNET10: Final = "helper2424/resnet10"
MAX_SIDE: Final = 2048

_HALF_WRITTEN: Final = "policy_preprocessor.json"


def find_directory(path: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """The directory that holds the policy, and its settings.

    Args:
        path: of the directory, of a checkpoint's folder with `pretrained_model`, or of a run with `checkpoints/last`.
        kind: the type that the settings must name.

    Raises:
        ForeignError: there is none, a file is missing, or it is of another type.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise ForeignError(path, f"the directory of a LeRobot policy of type {kind}", found)
    places = (path, path / "pretrained_model", path / "checkpoints" / "last" / "pretrained_model")
    folder = next((place for place in places if (place / CONFIG).exists()), path)
    config = read_json_object(folder / CONFIG)
    if config.get("type") != kind:
        raise ForeignError(folder / CONFIG, f'"type": "{kind}"', repr(config.get("type"))[:80])
    if not (folder / MODEL).exists():
        raise ForeignError(folder, MODEL, "a directory without it: half written, or an adapter")
    if (folder / _HALF_WRITTEN).exists():
        raise ForeignError(
            folder, "a policy of LeRobot's actor and learner, which normalize nothing", f"{_HALF_WRITTEN} beside it"
        )
    return folder, config


def input_shapes(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of each input in the order of the file, (H, W, 3) of pictures and (k,) of vectors. Raises ForeignError."""
    features = config.get("input_features")
    if not isinstance(features, dict) or not features:
        raise ForeignError(folder / CONFIG, "input_features", repr(features)[:80])
    shapes: dict[str, tuple[int, ...]] = {}
    for name, feature in features.items():
        match feature:
            case {"shape": [3, int() as height, int() as width]} if name.startswith(IMAGE):
                shape: tuple[int, ...] = (height, width, 3)
            case {"shape": [int() as size]} if name in (STATE, ENVIRONMENT):
                shape = (size,)
            case _:
                expected = f"{IMAGE}s... of shape [3, H, W], {STATE} or {ENVIRONMENT} of shape [k]"
                raise ForeignError(folder / CONFIG, expected, f"{name!r:.80} {feature!r:.80}")
        if not all(type(size) is int and 1 <= size <= MAX_SIDE for size in shape):
            raise ForeignError(folder / CONFIG, f"{name} with sizes of 1 to {MAX_SIDE}", str(shape))
        shapes[name] = shape
    return shapes


def expect_options(folder: Path, config: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ForeignError where an option, "outer.inner", is there with another value than those that are understood."""
    for name, values in only.items():
        found: Any = config
        for part in name.split("."):
            found = found.get(part, values[0]) if isinstance(found, dict) else values[0]
        if found not in values:
            raise ForeignError(folder / CONFIG, f"{name} {' or '.join(map(str, values))}", repr(found)[:80])
