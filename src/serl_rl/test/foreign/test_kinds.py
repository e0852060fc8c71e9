# SPDX-License-Identifier: Apache-2.0
"""Each kind of policy that a person may name is opened by something, which refuses what is none by its name."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from foreign_files import Settings, drqv2_tensors, write_archive
from serl_rl.imported.opening import _FOREIGN, open_policy
from serl_rl.policy.reference import KINDS, read_reference
from serl_rl.spec import DataError, TransitionSpec


def test_every_kind_but_our_own_is_foreign() -> None:
    assert set(KINDS) == {"serl", *_FOREIGN}


@pytest.mark.parametrize("kind", _FOREIGN)
def test_an_empty_folder_is_no_policy_of_any_kind(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    module, _, function = _FOREIGN[kind].partition(":")
    with pytest.raises(DataError, match="nothing"):
        getattr(import_module(module), function)(read_reference(f"{kind}:{folder}").path)


def test_a_snapshot_acts_on_the_observations_of_a_task(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = drqv2_tensors(rng, views=1, stack=2, side=24, state=3, actions=2, hidden=(8,))
    settings = Settings(env=Settings(cameras=["wrist"]), visual_observation_shape=[24, 24], frame_stack=2)
    write_archive(tmp_path / "10_snapshot.pt", {"agent": tensors, "cfg": settings})
    (tmp_path / "mapping.yaml").write_text("cameras: {rgb_wrist: wrist}\n")
    spec = TransitionSpec({"state": ((3,), "float32"), "wrist": ((24, 24, 3), "uint8")}, 2)
    reference = read_reference(f"drqv2:{tmp_path}")
    policy = open_policy(reference, spec, Path, mapping=tmp_path / "mapping.yaml")
    observation = {"state": np.zeros(3, np.float32), "wrist": rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)}
    policy.reset()
    action = policy.act(observation, deterministic=True)
    module, _, function = _FOREIGN["drqv2"].partition(":")
    alone = getattr(import_module(module), function)(tmp_path)
    expected = alone.act({"low_dim_state": observation["state"], "rgb_wrist": observation["wrist"]})
    np.testing.assert_allclose(action, expected, atol=1e-6)


def test_the_fingerprint_of_a_checkpoint_in_many_files_changes_with_them(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0").write_bytes(b"one")
    before = read_reference(f"flax:{tmp_path}").fingerprint
    (tmp_path / "d" / "0").write_bytes(b"two")
    assert read_reference(f"flax:{tmp_path}").fingerprint != before
