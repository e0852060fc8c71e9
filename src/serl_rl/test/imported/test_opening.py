# SPDX-License-Identifier: Apache-2.0
"""References to policies, and what they open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from serl_rl.imported.opening import PolicyError, open_policy
from serl_rl.policy.acting import NoisyMean
from serl_rl.policy.reference import read_reference
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)


def nowhere(name: str) -> Path:
    raise FileNotFoundError(name)


def policy_file(folder: Path, inputs: int = 3) -> Path:
    """A policy whose actions are tanh of the first two values."""
    arrays = {"head/kernel": np.eye(inputs, 2, dtype=np.float32), "head/bias": np.zeros(2, np.float32)}
    path = folder / "policy.safetensors"
    path.write_bytes(PolicySnapshot(arrays, {"state": inputs}, "relu", NoisyMean(0.1)).to_bytes())
    return path


def test_a_file_of_ours_acts(tmp_path):
    reference = read_reference(f"serl:{policy_file(tmp_path)}")
    policy = open_policy(reference, SPEC, nowhere)
    action = policy.act({"state": np.array([0.5, -1.0, 9.0], np.float32)}, deterministic=True)
    np.testing.assert_allclose(action, np.tanh([0.5, -1.0]), rtol=1e-6)


def test_the_fingerprint_is_that_of_the_file(tmp_path):
    reference = read_reference(f"serl:{policy_file(tmp_path)}")
    before = reference.fingerprint
    assert reference.fingerprint == before
    policy_file(tmp_path, inputs=4)
    assert reference.fingerprint != before


def test_the_fingerprint_of_a_run_is_that_of_its_newest_policy(tmp_path):
    newest, older = (tmp_path / "checkpoints" / step for step in ("000200", "000100"))
    for folder in (newest, older):
        folder.mkdir(parents=True)
        policy_file(folder)
    before = read_reference(f"serl:{tmp_path}").fingerprint
    policy_file(older, inputs=4)
    assert read_reference(f"serl:{tmp_path}").fingerprint == before
    policy_file(newest, inputs=4)
    assert read_reference(f"serl:{tmp_path}").fingerprint != before


@pytest.mark.parametrize(
    "text", ["", "serl", "serl:", "pickle:/etc/passwd", "serl:/nowhere/at/all", "act:" + 300 * "x"]
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(DataError, match="policy"):
        read_reference(text)


def test_a_policy_of_another_task_is_refused(tmp_path):
    with pytest.raises(PolicyError, match=r"serl:.*policy\.safetensors: observation"):
        open_policy(read_reference(f"serl:{policy_file(tmp_path, inputs=4)}"), SPEC, nowhere)


def test_half_a_file_and_an_empty_run_are_refused(tmp_path):
    path = policy_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    run = tmp_path / "run"
    run.mkdir()
    for place in (path, run):
        with pytest.raises(PolicyError, match=str(place)):
            open_policy(read_reference(f"serl:{place}"), SPEC, nowhere)


def test_a_policy_of_ours_needs_no_mapping(tmp_path):
    with pytest.raises(PolicyError, match="mapping"):
        open_policy(read_reference(f"serl:{policy_file(tmp_path)}"), SPEC, nowhere, mapping=tmp_path / "mapping.yaml")
