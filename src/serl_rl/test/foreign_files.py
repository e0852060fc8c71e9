# SPDX-License-Identifier: Apache-2.0
"""Writes what other stacks write, for tests: archives of torch.save, and random networks of RoboBase. No PyTorch."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Settings(dict[str, Any]):
    """A dictionary that is pickled as OmegaConf's `DictConfig` would be."""


def write_archive(path: Path, tree: Any, *, compression: int = zipfile.ZIP_STORED, extra: bytes = b"") -> None:
    """What `torch.save(tree, path)` writes; `extra` is run before the end of the pickle."""
    storages: list[bytes] = []
    pickled = b"\x80\x02" + _pickled(tree, storages) + extra + b"."
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for key, content in enumerate(storages):
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")


def _pickled(value: Any, storages: list[bytes]) -> bytes:
    def content(each: Any) -> bytes:
        return _pickled(each, storages)

    if isinstance(value, Settings):
        leaves = {
            name: each if isinstance(each, Settings) else _object("nodes AnyNode", {"_metadata": None, "_val": each})
            for name, each in value.items()
        }
        return content(_object("dictconfig DictConfig", {"_parent": None, "_content": leaves}))
    if isinstance(value, _Object):
        return _name(f"omegaconf.{value.name}") + b")\x81" + content(value.state) + b"b"
    if isinstance(value, dict):
        return b"}(" + b"".join(content(name) + content(each) for name, each in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(content, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(content, value)) + b"t"
    if isinstance(value, np.ndarray):
        storages.append(np.ascontiguousarray(value).tobytes())
        kind = {"float32": "FloatStorage", "int64": "LongStorage"}[value.dtype.name]
        reference = b"(" + content("storage") + _name(f"torch {kind}")
        reference += content(str(len(storages) - 1)) + content("cpu") + content(value.size) + b"tQ"
        strides = tuple(int(stride) // value.itemsize for stride in np.ascontiguousarray(value).strides)
        state = reference + content(0) + content(value.shape) + content(strides) + b"\x89"
        return _name("torch._utils _rebuild_tensor_v2") + b"(" + state + _name("collections OrderedDict") + b")RtR"
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bool) or value is None:
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    raise TypeError(type(value))


class _Object:
    def __init__(self, name: str, state: dict[str, Any]) -> None:
        self.name, self.state = name, state


def _object(name: str, state: dict[str, Any]) -> _Object:
    return _Object(name, state)


def _name(text: str) -> bytes:
    return b"c" + text.replace(" ", "\n").encode() + b"\n"


def drqv2_tensors(
    rng: np.random.Generator, *, views: int, stack: int, side: int, state: int, actions: int, hidden: tuple[int, ...]
) -> dict[str, NDArray[np.float32]]:
    """A random network with the names and shapes of RoboBase's DrQ-v2: 4 convolutions of 8 channels, bottlenecks 12.

    Without views it looks at the state alone, as RoboBase has it with `pixels: false`.
    """
    tensors: dict[str, NDArray[np.float32]] = {}

    def put(name: str, *shape: int) -> None:
        scale = 1.0 / np.sqrt(max(np.prod(shape[1:]), 1.0))
        tensors[f"{name}.weight"] = rng.normal(0.0, scale, shape).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0.0, 0.3, shape[0]).astype(np.float32)

    for view in range(views):
        for layer in range(4):
            put(f"encoder.convs_per_cam.{view}.{3 * layer}", 8, 3 * stack if layer == 0 else 8, 3, 3)
    map_side = (side - 3) // 2 + 1 - 6

    def head(prefix: str, action: int, outputs: int) -> None:
        if views:
            put(f"{prefix}.input_preprocess_modules.fused_view_feats.0", 12, views * 8 * map_side**2)
            put(f"{prefix}.input_preprocess_modules.fused_view_feats.1", 12)
        put(f"{prefix}.input_preprocess_modules.low_dim_obs.0", 12, stack * state)
        put(f"{prefix}.input_preprocess_modules.low_dim_obs.1", 12)
        sizes = ((24 if views else 12) + action, *hidden)
        for layer, (inputs, size) in enumerate(zip(sizes, hidden, strict=False)):
            put(f"{prefix}.main_mlp.{3 * layer}", size, inputs)
        put(f"{prefix}.out_mlp.0", outputs, sizes[-1])

    head("actor_model", 0, actions)
    for critic in range(2):
        head(f"critic.qs.{critic}", actions, 1)
        head(f"critic_target.qs.{critic}", actions, 1)
    return tensors
