# SPDX-License-Identifier: Apache-2.0
"""Flips single bits of every kind of file that holds data, and asks whether its reader notices. Imports no JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serl_rl import checkpoint
from serl_rl.encoders.file import EncoderDescription, read_encoder, write_encoder
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.reward.classifier_file import ClassifierError, ClassifierInfo, read_classifier
from serl_rl.reward.data import EpisodeBuilder, FrameSource, RewardDataFile, View, read_reward_data
from serl_rl.spec import ArraySpec, DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.demonstrations import DemonstrationFile, read_demonstrations
from serl_rl.storage.journal import Journal, JournalError, Record, read_journal
from serl_rl.storage.tensors import pack

SPEC = TransitionSpec({"state": ArraySpec((6,), "float32")}, 3, meaning={"state": [{"name": "x", "scale": 0.1}]})

_SEEN = replace(SPEC, observation={**SPEC.observation, "wrist": ArraySpec((12, 16, 3), "uint8")})
_ERRORS = (DataError, JournalError, checkpoint.CheckpointError, ClassifierError, ValueError)


@dataclass
class FlipReport:
    """What became of the flips.

    flips: of each kind of file
    missed: "kind, bit": read without an error, as something else than it was
    unnamed: "kind, bit": refused without the name of the file, or with another error than that of its reader
    """

    flips: dict[str, int] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    @property
    def detected(self) -> float:
        """Share of the flips that were noticed or changed nothing [%]."""
        total = sum(self.flips.values())
        return 100.0 * (total - len(self.missed) - len(self.unnamed)) / total


def flip_bits(folder: Path, flips: int, seed: int) -> FlipReport:
    """Make a file of each kind and flip one bit after the other, each alone.

    Args:
        folder: empty, for the files.
        flips: to make, over all files.
        seed: of their places.
    """
    rng = np.random.default_rng(seed)
    files = _make_files(folder, rng)
    report = FlipReport()
    for kind, (path, read) in files.items():
        before = _plain(read())
        report.flips[kind] = -(-flips // len(files))
        with path.open("r+b", buffering=0) as file:
            for bit in rng.integers(8 * path.stat().st_size, size=report.flips[kind]).tolist():
                byte = os.pread(file.fileno(), 1, bit // 8)
                os.pwrite(file.fileno(), bytes([byte[0] ^ 1 << bit % 8]), bit // 8)
                try:
                    if _plain(read()) != before:
                        report.missed.append(f"{kind}, bit {bit}")
                except _ERRORS as error:
                    if path.name not in str(error):
                        report.unnamed.append(f"{kind}, bit {bit}: {error}")
                os.pwrite(file.fileno(), byte, bit // 8)
    return report


def _make_files(folder: Path, rng: np.random.Generator) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """Path and reader of a file of each kind."""
    journal, demonstrations, seen = folder / "journal", folder / "a.demo", folder / "seen.demo"
    with Journal(journal, SPEC, sync_interval=None) as written:
        for number in range(4):
            written.append(Record("actor", "session", 20 * number, 20, encode_chunk(_chunk(rng, number))))
        place, name = written.position, written.id
    with DemonstrationFile(demonstrations, SPEC) as file:
        for number in range(4):
            file.append(_chunk(rng, number))

    with DemonstrationFile(seen, _SEEN) as file:
        for number in range(4):
            chunk = _chunk(rng, number)
            pictures = rng.integers(0, 256, (21, 12, 16, 3), np.uint8)
            file.append(replace(chunk, observation={**chunk.observation, "wrist": pictures}))

    agent = _Arrays(_weights(rng))
    saved = checkpoint.save(
        folder, 7, agent, counters={"trained": 7, "env_steps": 80}, rng=rng, position=place, journal=name
    )
    policy = folder / "policy"
    policy.write_bytes(agent.policy_snapshot().to_bytes())

    encoder = folder / "encoder.safetensors"
    write_encoder(encoder, _weights(rng), EncoderDescription("small", "flipped", ("wrist",), metrics={"error": 0.25}))
    source = FrameSource("pick", {"wrist": View(16, 12)})
    info = ClassifierInfo(source, "small", "auto", "0" * 16, 4, 8, 1.25, (0.75,), 2, {"accuracy": 0.5}, ("a", "b"))
    classifier = folder / "classifier.safetensors"
    classifier.write_bytes(pack(_weights(rng), {"classifier": info.to_json()}))
    frames = folder / "a.frames"
    with RewardDataFile(frames, source) as data:
        builder = EpisodeBuilder(source, "truth")
        for label in (0, 0, 1):
            builder.add({"wrist": rng.integers(0, 256, (12, 16, 3), np.uint8)}, label)
        data.append(builder.build())

    def read_checkpoint() -> Any:
        found = checkpoint.load(saved, agent)
        policy = checkpoint.load_policy(saved)
        return [found.agent.values, found.step, found.counters, found.rng.bit_generator.state, found.position, policy]

    def read_policy() -> Any:
        try:
            return PolicySnapshot.from_bytes(policy.read_bytes())
        except DataError as error:  # which comes in a message and knows of no file
            raise DataError(policy.name, "a policy", str(error)) from error

    return {
        "journal": (journal / "00000000.segment", lambda: list(read_journal(journal, SPEC))),
        "demonstrations": (demonstrations, lambda: list(read_demonstrations(demonstrations, SPEC))),
        "pictures of demonstrations": (seen, lambda: list(read_demonstrations(seen, _SEEN))),
        "manifest": (saved / "manifest.json", read_checkpoint),
        "agent": (saved / "agent.safetensors", read_checkpoint),
        "checkpoint's policy": (saved / "policy.safetensors", read_checkpoint),
        "policy": (policy, read_policy),
        "encoder": (encoder, lambda: read_encoder(encoder)),
        "classifier": (classifier, lambda: read_classifier(classifier)),
        "frames": (frames, lambda: read_reward_data([frames])),
    }


class _Arrays:
    """An agent that learns nothing."""

    spec = SPEC

    def __init__(self, values: Mapping[str, NDArray[Any]]) -> None:
        self.values = dict(values)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self.values

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        return type(self)(arrays)

    def policy_snapshot(self) -> PolicySnapshot:
        return PolicySnapshot(self.values, {"state": 6}, "relu", SquashedGaussian((-5.0, 2.0)), meaning=SPEC.meaning)


def _weights(rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    return {f"dense_{layer}/kernel": rng.standard_normal((8, 8), np.float32) for layer in range(3)}


def _chunk(rng: np.random.Generator, number: int) -> Chunk:
    return Chunk(
        observation={"state": rng.standard_normal((21, 6), np.float32)},
        action=rng.uniform(-1, 1, (20, 3)).astype(np.float32),
        reward=np.zeros(20, np.float32),
        mask=np.ones(20, np.float32),
        truncated=np.zeros(20, np.bool_),
        intervention=np.zeros(20, np.bool_),
        policy_version=np.zeros(20, np.uint64),
        actor_id="actor",
        episode=number,
        first_step=0,
        demonstration=False,
        last=False,
        success=False,
        meaning=SPEC.meaning_hash,
    )


def _plain(value: Any) -> Any:
    """What can be compared: every array as its type, shape and bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, memoryview):
        return value.tobytes()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return {key: _plain(entry) for key, entry in vars(value).items()} if hasattr(value, "__dict__") else value
