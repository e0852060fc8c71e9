# SPDX-License-Identifier: Apache-2.0
"""A changed bit in a file is noticed, wherever it is; files of older versions are still read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from serl_rl.benchmarks.integrity import flip_bits
from serl_rl.encoders.file import EncoderDescription, EncoderError, read_encoder, weights_hash
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.storage import tensors
from serl_rl.storage.chunk import DataError

ARRAYS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros(0, np.int64), "c": np.array(True)}


def test_flipped_bits_are_noticed_and_the_file_is_named(tmp_path: Path) -> None:
    report = flip_bits(tmp_path, 2000, seed=1)
    assert sum(report.flips.values()) >= 2000
    assert len(report.flips) == 10
    assert (report.missed, report.unnamed) == ([], [])


def test_a_report_counts_what_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_digest", lambda _header, _body: "always the same")
    report = flip_bits(tmp_path, 900, seed=1)
    assert any(line.startswith("classifier") for line in report.missed)
    assert report.detected < 100.0


def test_every_bit_of_a_sealed_file_counts() -> None:
    data = tensors.pack(ARRAYS, {"about": "three arrays", "more": "é"})
    assert data == tensors.pack(ARRAYS, {"more": "é", "about": "three arrays"})
    arrays, metadata = tensors.unpack(data)
    assert {name: array.tolist() for name, array in arrays.items()} == {n: a.tolist() for n, a in ARRAYS.items()}
    assert (metadata["about"], metadata["more"]) == ("three arrays", "é")
    tensors.expect_seal(metadata)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found, about = tensors.unpack(bytes(changed))
            tensors.expect_seal(about)
        except DataError:
            continue
        assert about == metadata
        assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())


def test_other_programs_read_what_is_sealed(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(tensors.pack(ARRAYS, {"about": "text"}))
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata()["about"] == "text"
        assert np.array_equal(file.get_tensor("b"), ARRAYS["b"])


def test_encoders_and_policies_of_older_versions_are_read_and_new_ones_must_be_sealed(tmp_path: Path) -> None:
    weights = {"a": np.ones(3, np.float16)}
    about = {"kind": "small", "name": "old", "cameras": [], "worlds": [], "seed": 0, "recipe": {}, "metrics": {}}
    about["hash"] = weights_hash("small", weights)
    for version in (1, 2):
        text = json.dumps(about | {"format": f"serl-encoder-{version}"})
        safetensors.numpy.save_file(weights, tmp_path / f"{version}.safetensors", metadata={"encoder": text})
    assert read_encoder(tmp_path / "1.safetensors")[1] == EncoderDescription("small", "old", hash=about["hash"])
    with pytest.raises(EncoderError, match=r"2\.safetensors: expected the hash"):
        read_encoder(tmp_path / "2.safetensors")

    policy = {"observation": [["state", 3]], "activation": "relu", "frames": None}
    policy["actor"] = {"kind": "squashed_gaussian", "log_std_bounds": [-5.0, 2.0]}
    for version in (2, 3):
        text = json.dumps(policy | {"format": f"serl-policy-{version}"})
        data = safetensors.numpy.save(weights, metadata={"policy": text})
        if version == 2:
            assert PolicySnapshot.from_bytes(data).meaning == {}
        else:
            with pytest.raises(DataError, match="hash"):
                PolicySnapshot.from_bytes(data)
