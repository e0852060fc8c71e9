# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: directories that appear complete or not at all, and notice when they were changed. Imports no JAX.

    <number>_step_<step>/
        agent.safetensors    every array of the agent: parameters, targets, optimizers, random key
        policy.safetensors   what acting needs (`PolicySnapshot`)
        manifest.json        step, counters, state of the sampling, specification, place in the journal and its id;
                             size and SHA-256 of the files; SHA-256 of the manifest itself

The replay buffers are not in it: they are filled from the journal, up to at least the place that the manifest names.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import remove_leftovers, sync_directory, write_synced
from serl_config.files import FileError, read_bytes
from serl_config.strict_json import SIZE_LIMIT, JsonError, parse_json

from serl_rl.agent import Checkpointable
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import tensors
from serl_rl.storage.journal import Position

FORMAT = "serl-checkpoint-2"
_OLDER = "serl-checkpoint-1"  # the same without specification, id of the journal and checksum of the manifest
_SEAL = "sha256"
_INCOMPLETE = ".incomplete."

_MANIFEST = "manifest.json"
_AGENT = "agent.safetensors"
_POLICY = "policy.safetensors"
_NAME = re.compile(r"(\d{6,})_step_(\d+)")

_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written: says which, what was expected and what was found."""


AgentT = TypeVar("AgentT", bound=Checkpointable)


@dataclass(frozen=True)
class Checkpoint(Generic[AgentT]):
    """A checkpoint that was loaded.

    counters: as they were saved
    rng: generator of the sampling, in the state in which it was saved
    position: place in the journal up to which transitions had been stored; None for a copy that left its journal
    journal: id of the journal; empty where it has none
    """

    path: Path
    step: int
    agent: AgentT
    counters: dict[str, int]
    rng: np.random.Generator
    position: Position | None
    journal: str = ""


def save(
    directory: Path,
    step: int,
    agent: Checkpointable,
    *,
    counters: Mapping[str, int],
    rng: np.random.Generator,
    position: Position,
    journal: str = "",
    keep: int = 3,
) -> Path:
    """Write a checkpoint and remove all but the `keep` newest; returns its path.

    Raises:
        CheckpointError: it cannot be written (disk full), or the agent is no longer made of finite numbers; the
            earlier checkpoints are untouched then.
    """
    arrays = agent.arrays()
    if (name := tensors.first_unbounded(arrays)) is not None:
        raise CheckpointError(f"{directory}: not saved at step {step}: {name} holds NaN or infinity")
    files = {
        _AGENT: tensors.pack(arrays, {"format": FORMAT}),
        _POLICY: agent.policy_snapshot().to_bytes(),
    }
    manifest = {
        "format": FORMAT,
        "step": step,
        "counters": dict(counters),
        "rng": rng.bit_generator.state,
        "spec": json.loads(agent.spec.to_json()),
        "journal": journal,
        "position": list(position),
        "files": {name: {"size": len(data), "sha256": _digest(data)} for name, data in files.items()},
    }
    files[_MANIFEST] = _manifest_bytes(manifest)
    temporary = directory / f"{_INCOMPLETE}{os.getpid()}"
    try:
        directory.mkdir(exist_ok=True)  # and no more: a run that was deleted meanwhile is not made again
        remove_leftovers(directory, _INCOMPLETE)
        existing = listing(directory)
        number = _number(existing[-1]) + 1 if existing else 0
        path = directory / f"{number:06d}_step_{step}"
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{directory}: cannot save a checkpoint of step {step}: {error}") from error
    for old in [*existing, path][:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def read_position(path: Path) -> Position | None:
    """The place in the journal that a checkpoint names, as in `Checkpoint`; raises CheckpointError if it is damaged."""
    manifest = _read_manifest(path)
    try:
        return _position(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / _MANIFEST}: a value is missing or wrong: {error!r}") from error


def remove_incomplete(directory: Path) -> None:
    """Remove what was left by savers that were killed."""
    remove_leftovers(directory, _INCOMPLETE)


def load(path: Path, template: AgentT) -> Checkpoint[AgentT]:
    """Read a checkpoint into an agent like `template`.

    Raises CheckpointError if it is damaged, foreign or unfit, or holds numbers that are not finite.
    """
    manifest = _read_manifest(path)
    _check_spec(path, manifest, template.spec)
    try:
        arrays, _ = tensors.unpack(_read(path, manifest, _AGENT))
        agent = template.with_arrays(arrays)
    except DataError as error:
        raise CheckpointError(f"{path / _AGENT}: {error}; it belongs to another task or configuration") from error
    _check_finite(path / _AGENT, arrays)
    try:
        return Checkpoint(
            path=path,
            step=int(manifest["step"]),
            agent=agent,
            counters={str(name): int(value) for name, value in manifest["counters"].items()},
            rng=_generator(manifest["rng"]),
            position=_position(manifest),
            journal=str(manifest.get("journal", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path / _MANIFEST}: a value is missing or wrong: {error!r}") from error


def copy_elsewhere(path: Path, directory: Path, journal: str = "", position: Position | None = None) -> Path:
    """Copy a checkpoint into the checkpoints of another run; returns the copy.

    Args:
        path: of the checkpoint.
        directory: for the copy.
        journal: id of the journal there; empty if there is none.
        position: up to which that journal holds what the checkpoint was trained on; None if there is none.

    Raises:
        CheckpointError: it is damaged, or the copy cannot be written.
    """
    manifest = _read_manifest(path)
    copy = directory / path.name
    place = {"position": None if position is None else list(position), "journal": journal}
    try:
        copy.mkdir(parents=True)
        for name in (_AGENT, _POLICY):
            (copy / name).write_bytes(_read(path, manifest, name))
        (copy / _MANIFEST).write_bytes(_manifest_bytes(manifest | place))
    except OSError as error:
        raise CheckpointError(f"{copy}: cannot be written: {error}") from error
    return copy


def load_policy(path: Path) -> PolicySnapshot:
    """Read only the policy of a checkpoint. Raises CheckpointError if it is damaged or foreign."""
    try:
        return PolicySnapshot.from_bytes(_read(path, _read_manifest(path), _POLICY))
    except DataError as error:
        raise CheckpointError(f"{path / _POLICY}: {error}") from error


def verify(path: Path) -> None:
    """Raise CheckpointError unless all files of a checkpoint are there, unchanged, and all numbers finite."""
    manifest = _read_manifest(path)
    for name in (_AGENT, _POLICY):
        data = _read(path, manifest, name)
        try:
            _check_finite(path / name, tensors.unpack(data)[0])
        except DataError as error:
            raise CheckpointError(f"{path / name}: {error}") from error


def latest(directory: Path) -> Path | None:
    """The newest undamaged checkpoint, or None if there never was one.

    Damaged ones are passed over with a warning. Raises CheckpointError if there are only damaged ones.
    """
    problem: CheckpointError | None = None
    for path in reversed(listing(directory)):
        try:
            verify(path)
        except CheckpointError as error:
            _log.warning("passed over a checkpoint: %s", error)
            problem = problem or error
        else:
            return path
    if problem is not None:
        raise problem
    return None


def load_latest(directory: Path, template: AgentT) -> Checkpoint[AgentT] | None:
    """Load the newest undamaged checkpoint, see `latest` and `load`."""
    path = latest(directory)
    return None if path is None else load(path, template)


def listing(directory: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    paths = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)] if directory.is_dir() else []
    return sorted(paths, key=_number)


def _number(path: Path) -> int:
    return int(path.name.split("_", 1)[0])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_finite(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    if (name := tensors.first_unbounded(arrays)) is not None:
        raise CheckpointError(f"{path}: {name}: expected finite numbers, found NaN or infinity; training went wrong")


def _check_spec(path: Path, manifest: Mapping[str, Any], spec: TransitionSpec) -> None:
    if "spec" not in manifest:
        return
    try:
        found = TransitionSpec.from_json(json.dumps(manifest["spec"]))
    except DataError as error:
        raise CheckpointError(f"{path / _MANIFEST}: {error}") from error
    if not spec.agrees(found):
        raise CheckpointError(
            f"{path}: {spec.difference(found)}; it belongs to another task or configuration: restore the one that the "
            "run was begun with, or begin a new run"
        )


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The text of a manifest with its own checksum."""
    unsealed = {name: value for name, value in manifest.items() if name != _SEAL}
    return json.dumps(unsealed | {_SEAL: _seal(unsealed)}, indent=1).encode()


def _seal(manifest: Mapping[str, Any]) -> str:
    return _digest(json.dumps(manifest, sort_keys=True).encode())


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = parse_json(read_bytes(path / _MANIFEST, SIZE_LIMIT), finite=False)
    except FileError as error:
        raise CheckpointError(f"{path}: expected a checkpoint with a {_MANIFEST}: {error.reason}") from error
    except JsonError as error:
        raise CheckpointError(f"{path / _MANIFEST}: expected JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in (FORMAT, _OLDER):
        raise CheckpointError(f"{path / _MANIFEST}: expected format {FORMAT!r}, found another")
    seal = manifest.pop(_SEAL, None)
    if (seal is not None or manifest["format"] == FORMAT) and seal != _seal(manifest):
        raise CheckpointError(f"{path / _MANIFEST}: does not have the SHA-256 that it names; it was changed")
    return manifest


def _read(path: Path, manifest: dict[str, Any], name: str) -> bytes:
    try:
        expected = manifest["files"][name]
        size, digest = int(expected["size"]), str(expected["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / _MANIFEST}: names no size and sha256 of {name}") from error
    try:
        found = (path / name).stat().st_size
        data = (path / name).read_bytes() if found == size else b""
    except OSError as error:
        raise CheckpointError(f"{path / name}: cannot be read: {error}") from error
    if found != size:
        raise CheckpointError(f"{path / name}: expected {size} bytes, found {found}; it is truncated or foreign")
    if _digest(data) != digest:
        raise CheckpointError(f"{path / name}: expected SHA-256 {digest[:12]}..., found another; it was changed")
    return data


def _position(manifest: Mapping[str, Any]) -> Position | None:
    return None if manifest["position"] is None else Position(*map(int, manifest["position"]))


def _generator(state: Any) -> np.random.Generator:
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    return generator
