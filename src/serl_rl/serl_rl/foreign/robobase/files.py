# SPDX-License-Identifier: Apache-2.0
"""Reads DrQ-v2 policies: snapshots of RoboBase, and LeRobot-style directories; writes the latter.

A snapshot is `snapshots/STEPS_snapshot.pt`. A LeRobot-style directory holds `config.json` with ``"type": "drqv2"`` and
`model.safetensors`, as the fork of LeRobot has it that took RoboBase's network over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from serl_rl.foreign.directories import CONFIG, MODEL, check_new, pack_model, write_directory
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_json_object, read_tensors
from serl_rl.foreign.robobase.network import COLOURS, Architecture, DrQv2Network, Hints, read_network
from serl_rl.foreign.torch_archive import read_torch_archive

TYPE: Final = "drqv2"
PICTURE: Final = "observation.images."
STATE_FEATURE: Final = "observation.state"
MAX_SIZE: Final = 2**20
"""Largest size of a feature that a directory's settings may name."""

_NUMBERED = re.compile(r"(\d{1,18})_snapshot\.pt")
_UNUSABLE: Final = {
    "use_standardization": False,
    "use_min_max_normalization": False,
    "norm_obs": False,
    "action_sequence": 1,
    "frame_stack_on_channel": True,
    "method.view_fusion_model.mode": "flatten",
    "method.actor_model.norm_after_bottleneck": True,
    "method.actor_model.tanh_after_bottleneck": True,
    "method.actor_model.activation": "relu",
    "method.actor_model.norm": "identity",
    "method.critic_model.norm_after_bottleneck": True,
    "method.critic_model.tanh_after_bottleneck": True,
    "method.critic_model.activation": "relu",
    "method.critic_model.norm": "identity",
    "method.encoder_model.padding": 0,
    "method.encoder_model.activation": "relu",
    "method.encoder_model.norm": "identity",
    "method.encoder_model.normalise_inputs": True,
}
"""Settings of RoboBase that change what the policy does, and the only value of each that is understood."""
_UNUSABLE_OF_DIRECTORIES: Final = {
    "use_rnn": False,
    "view_fusion_mode": "flatten",
    "normalise_encoder_inputs": True,
    "norm_after_bottleneck": True,
    "tanh_after_bottleneck": True,
    "encoder_padding": 0,
    "num_discrete_actions": None,
}


@dataclass(frozen=True)
class DrQv2Checkpoint:
    """A DrQ-v2 policy as data.

    source: the file or directory that was read
    network: actor, critics and their targets
    settings: that lay beside, of RoboBase or of the fork, as they are
    """

    source: Path
    network: DrQv2Network
    settings: Mapping[str, Any] = field(default_factory=dict)


def list_snapshots(folder: Path) -> list[Path]:
    """Numbered snapshots in a folder, the latest last. `best_snapshot.pt` is not one: it was chosen by reward alone."""
    numbered = [(int(found[1]), file) for file in folder.iterdir() if (found := _NUMBERED.fullmatch(file.name))]
    return [file for _, file in sorted(numbered)]


def read_drqv2(path: Path) -> DrQv2Checkpoint:
    """The policy in a snapshot, in a LeRobot-style directory, or in the latest numbered snapshot of a folder.

    Raises:
        ForeignError: there is none, or it is damaged, of another architecture, or uses an unknown setting.
    """
    if path.is_file():
        return _read_snapshot(path)
    if not path.is_dir():
        raise ForeignError(path, "a snapshot of RoboBase or a LeRobot-style directory", "nothing there")
    for folder in (path, path / "pretrained_model"):
        if (folder / CONFIG).exists() or (folder / MODEL).exists():
            return _read_directory(folder)
    for folder in (path, path / "snapshots"):
        if folder.is_dir() and (snapshots := list_snapshots(folder)):
            return _read_snapshot(snapshots[-1])
    raise ForeignError(path, f"{CONFIG} and {MODEL}, or NUMBER_snapshot.pt", "none of them")


def write_drqv2(path: Path, checkpoint: DrQv2Checkpoint) -> None:
    """Write a policy as a new LeRobot-style directory, which appears whole or not at all.

    Raises:
        ForeignError: there is something at the path already.
        OSError: it cannot be written.
    """
    check_new(path)
    architecture = checkpoint.network.architecture
    tensors = {
        f"actor.{name}" if name.startswith("actor_model.") else name: values
        for name, values in checkpoint.network.tensors.items()
    }
    tensors["log_alpha"] = np.zeros(1, np.float32)  # the fork's learner has one for every kind of policy
    write_directory(path, {CONFIG: json.dumps(_config(architecture), indent=2).encode(), MODEL: pack_model(tensors)})


def setting(settings: Mapping[str, Any], path: str) -> Any:
    """A value in a tree of settings by its dotted path, through interpolations like ``${env.x}``; None: not there."""
    for _ in range(8):
        value: Any = settings
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if not (isinstance(value, str) and (found := re.fullmatch(r"\$\{([\w.]+)\}", value))):
            return value
        path = found[1]
    return None


def _read_snapshot(path: Path) -> DrQv2Checkpoint:
    tree = read_torch_archive(path)
    tensors, settings = tree.get("agent"), tree.get("cfg") or {}
    if not isinstance(tensors, dict):
        raise ForeignError(path, "an entry 'agent' with tensors", f"entries {sorted(tree)[:8]}")
    if not isinstance(settings, dict):
        raise ForeignError(path, "settings in 'cfg'", type(settings).__name__)
    for name, only in _UNUSABLE.items():
        found = setting(settings, name)
        if found is not None and found != only:
            raise ForeignError(path, f"{name} {only}", repr(found)[:80])
    cameras = setting(settings, "env.cameras") if setting(settings, "pixels") is not False else None
    names = tuple(f"rgb_{each}" for each in cameras) if isinstance(cameras, list) else None
    views = len({name.split(".")[2] for name in tensors if name.startswith("encoder.convs_per_cam.")})
    hints = Hints(
        cameras=names if names and len(names) == views else None,
        picture=_pair(path, setting(settings, "visual_observation_shape")),
        frame_stack=_whole(path, "frame_stack", setting(settings, "frame_stack")),
        shrinking=_whole(path, "num_downsample_convs", setting(settings, "method.encoder_model.num_downsample_convs")),
    )
    return DrQv2Checkpoint(path, read_network(path, tensors, hints), settings)


def _read_directory(path: Path) -> DrQv2Checkpoint:
    config = read_json_object(path / CONFIG)
    if config.get("type") != TYPE:
        raise ForeignError(path / CONFIG, f'"type": "{TYPE}"', repr(config.get("type"))[:80])
    for name, only in _UNUSABLE_OF_DIRECTORIES.items():
        if config.get(name, only) != only:
            raise ForeignError(path / CONFIG, f"{name} {only}", repr(config[name])[:80])
    mapping = config.get("normalization_mapping") or {}
    if not isinstance(mapping, dict) or any(mode != "IDENTITY" for mode in mapping.values()):
        raise ForeignError(path / CONFIG, "normalization_mapping of IDENTITY alone", repr(mapping)[:80])
    features = config.get("input_features")
    if not isinstance(features, dict):
        raise ForeignError(path / CONFIG, "input_features", type(features).__name__)
    pictures = {name: _feature(path, name, each) for name, each in features.items() if name.startswith(PICTURE)}
    stack = _whole(path, "frame_stack", config.get("frame_stack", 3))
    for name, shape in pictures.items():
        if len(shape) != 3 or shape[0] != COLOURS * (stack or 1):
            raise ForeignError(path / CONFIG, f"{name} of {COLOURS * (stack or 1)} channels, stacked", str(shape))
    sizes = {shape[1:] for shape in pictures.values()}
    if len(sizes) > 1 or not (sizes or STATE_FEATURE in features):
        raise ForeignError(path / CONFIG, "pictures of one size", str(sorted(sizes)) if sizes else "no pictures")
    size = sizes.pop() if sizes else (0, 0)
    shrinking = _whole(path, "num_downsample_convs", config.get("num_downsample_convs", 1))
    hints = Hints(tuple(pictures), (size[0], size[1]), stack, shrinking)
    network = read_network(path / MODEL, read_tensors(path / MODEL), hints)
    state = features.get(STATE_FEATURE)
    expected = network.architecture.frame_stack * network.architecture.state
    if state is not None and _feature(path, STATE_FEATURE, state) != (expected,):
        raise ForeignError(path / CONFIG, f"{STATE_FEATURE} of shape [{expected}], as its weights", str(state)[:80])
    return DrQv2Checkpoint(path, network, config)


def _config(architecture: Architecture) -> dict[str, Any]:
    height, width = architecture.picture
    stack = architecture.frame_stack
    inputs: dict[str, Any] = {
        name if name.startswith(PICTURE) else f"{PICTURE}{name.removeprefix('rgb_')}": {
            "type": "VISUAL",
            "shape": [COLOURS * stack, height, width],
        }
        for name in architecture.cameras
    }
    if architecture.state:
        inputs[STATE_FEATURE] = {"type": "STATE", "shape": [stack * architecture.state]}
    return {
        "type": TYPE,
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": {"action": {"type": "ACTION", "shape": [architecture.actions]}},
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "IDENTITY"},
        "frame_stack": stack,
        "num_downsample_convs": architecture.shrinking,
        "num_post_downsample_convs": architecture.others,
        "encoder_channels": architecture.channels,
        "encoder_kernel_size": architecture.kernel,
        "encoder_padding": 0,
        "normalise_encoder_inputs": True,
        "view_fusion_mode": "flatten",
        "bottleneck_size": architecture.bottleneck,
        "norm_after_bottleneck": True,
        "tanh_after_bottleneck": True,
        "mlp_nodes": list(architecture.hidden),
        "use_rnn": False,
        "num_critics": architecture.critics,
    }


def _feature(path: Path, name: str, feature: Any) -> tuple[int, ...]:
    shape = feature.get("shape") if isinstance(feature, dict) else None
    if (
        not isinstance(shape, list)
        or not shape
        or not all(type(size) is int and 1 <= size <= MAX_SIZE for size in shape)
    ):
        raise ForeignError(path / CONFIG, f"a shape of {name}, of sizes from 1 to {MAX_SIZE}", repr(feature)[:80])
    return tuple(shape)


def _pair(path: Path, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    match value:
        case [int() as height, int() as width] if min(height, width) >= 8 and max(height, width) <= 1024:
            return height, width
    raise ForeignError(path, "visual_observation_shape of 8 to 1024 pixels", repr(value)[:80])


def _whole(path: Path, name: str, value: Any) -> int | None:
    if value is None or (type(value) is int and 0 <= value <= 16):
        return value
    raise ForeignError(path, f"{name}, a number from 0 to 16", repr(value)[:80])
