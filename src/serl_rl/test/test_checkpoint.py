# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_rl.checkpoint import CheckpointError
from serl_rl.config import SACConfig
from serl_rl.ingest import Ingest
from serl_rl.jax.sac import SACAgent
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.sampler import SymmetricSampler
from serl_rl.storage import tensors
from serl_rl.storage.chunk import TransitionSpec, encode_chunk
from serl_rl.storage.journal import Journal, Position

from serl_rl import checkpoint

pytestmark = pytest.mark.usefixtures("cheap_compilation")

CONFIG = SACConfig(hidden_sizes=(8,))


@pytest.fixture
def agent(state_spec) -> SACAgent:
    return SACAgent.create(0, state_spec, CONFIG)


def save(directory: Path, step: int, agent: SACAgent, **changes: Any) -> Path:
    options: dict[str, Any] = {
        "counters": {"trained": step},
        "rng": np.random.default_rng(step),
        "position": Position(0, step),
    }
    return checkpoint.save(directory, step, agent, **(options | changes))


def same_state(first: SACAgent, second: SACAgent) -> bool:
    old, new = first.arrays(), second.arrays()
    return old.keys() == new.keys() and all(old[name].tobytes() == new[name].tobytes() for name in old)


class Run:
    """A learner: journal, buffers, sampler, agent."""

    def __init__(self, path: Path, spec, seed: int) -> None:
        self.path = path
        journal = Journal(path / "journal", spec, sync_interval=None)
        self.ingest = Ingest(spec, journal, ReplayBuffer(spec, 60), ReplayBuffer(spec, 60))
        self.sampler = SymmetricSampler(self.ingest.online, self.ingest.demonstrations, 8, seed)
        self.agent = SACAgent.create(seed, spec, CONFIG)

    def train(self, calls: int) -> None:
        for _ in range(calls):
            self.agent, _ = self.agent.update(self.sampler.sample(2, 2))

    def save(self) -> None:
        save(self.path, 7, self.agent, rng=self.sampler.rng, position=self.ingest.position)


def test_a_resumed_run_goes_on_to_the_bit(tmp_path, make_chunk, state_spec):
    run = Run(tmp_path, state_spec, seed=1)
    for number in range(10):
        chunk = make_chunk(state_spec, 12, seed=number, last=True, demonstration=number < 3, episode=number)
        run.ingest.insert("actor", "s", 12 * number, 12, encode_chunk(chunk))
    run.train(3)
    run.save()
    run.train(3)
    run.ingest.journal.close()

    resumed = Run(tmp_path, state_spec, seed=99)
    resumed.ingest.restore()
    loaded = checkpoint.load_latest(tmp_path, resumed.agent)
    assert loaded is not None
    assert loaded.position == resumed.ingest.position
    resumed.agent, resumed.sampler.rng = loaded.agent, loaded.rng
    resumed.train(3)
    assert same_state(run.agent, resumed.agent)
    resumed.ingest.journal.close()


def test_everything_comes_back(tmp_path, agent):
    rng = np.random.default_rng(4)
    rng.random(7)
    path = save(tmp_path, 12, agent, counters={"trained": 12, "env_steps": 34}, rng=rng, position=Position(2, 99))
    loaded = checkpoint.load(path, SACAgent.create(5, agent.spec, CONFIG))
    assert same_state(loaded.agent, agent)
    assert (loaded.step, loaded.counters, loaded.position) == (12, {"trained": 12, "env_steps": 34}, Position(2, 99))
    assert loaded.rng.random(5).tolist() == rng.random(5).tolist()


def test_the_policy_can_be_read_alone(tmp_path, agent):
    snapshot = checkpoint.load_policy(save(tmp_path, 1, agent))
    assert snapshot.to_bytes() == agent.policy_snapshot().to_bytes()


def test_only_the_newest_are_kept(tmp_path, agent):
    paths = [save(tmp_path, step, agent, keep=2) for step in (5, 5, 3, 8)]
    assert sorted(path for path in tmp_path.iterdir()) == paths[2:]
    assert checkpoint.latest(tmp_path) == paths[-1]


def test_a_new_directory_has_no_checkpoint(tmp_path, agent):
    assert checkpoint.latest(tmp_path / "nowhere") is None
    assert checkpoint.load_latest(tmp_path, agent) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def foreign(path: Path) -> None:
    path.write_bytes(b'{"format": "something else"}')


def missing(path: Path) -> None:
    path.unlink()


FILES = ["agent.safetensors", "policy.safetensors", "manifest.json"]
DAMAGES = [(name, damage) for name in FILES for damage in (truncate, flip, foreign, missing)]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_found(tmp_path, agent, caplog, name, damage):
    good, bad = save(tmp_path, 1, agent), save(tmp_path, 2, agent)
    damage(bad / name)
    with pytest.raises(CheckpointError, match=name):
        checkpoint.verify(bad)
    assert checkpoint.latest(tmp_path) == good
    assert "passed over" in caplog.text


def test_only_damaged_checkpoints_are_an_error(tmp_path, agent):
    truncate(save(tmp_path, 1, agent) / "agent.safetensors")
    with pytest.raises(CheckpointError, match="truncated or foreign"):
        checkpoint.latest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"step": None},
        {"counters": [1]},
        {"rng": {"bit_generator": "MT19937"}},
        {"rng": 3},
        {"position": [1]},
        {"files": {}},
        {"files": {"agent.safetensors": {"size": "x"}}},
    ],
)
def test_a_manifest_with_wrong_values_is_refused(tmp_path, agent, change):
    path = save(tmp_path, 1, agent)
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        checkpoint.load(path, agent)


def test_the_checkpoint_of_another_configuration_is_refused(tmp_path, agent):
    path = save(tmp_path, 1, agent)
    other = SACAgent.create(0, agent.spec, SACConfig(hidden_sizes=(4,)))
    with pytest.raises(CheckpointError, match="another task or configuration"):
        checkpoint.load(path, other)


def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, agent):
    good = save(tmp_path, 1, agent)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(CheckpointError, match="cannot save a checkpoint of step 2"):
            save(tmp_path, 2, agent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == [good]
    assert checkpoint.latest(tmp_path) == good
    save(tmp_path, 3, agent)


def test_what_killed_savers_left_is_no_checkpoint_and_is_removed_by_the_next(tmp_path, agent):
    good = save(tmp_path, 1, agent)
    dead = subprocess.Popen(["true"])
    dead.wait()
    kept = {tmp_path / name for name in (f".incomplete.{os.getppid()}", "notes.txt", ".incomplete.mine", good.name)}
    (tmp_path / f".incomplete.{os.getppid()}").mkdir()
    (tmp_path / ".incomplete.mine").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    for process in (dead.pid, os.getpid()):
        (tmp_path / f".incomplete.{process}").mkdir()
        (tmp_path / f".incomplete.{process}" / "agent.safetensors").write_text("half of it")
    assert checkpoint.latest(tmp_path) == good
    newer = save(tmp_path, 2, agent)
    assert set(tmp_path.iterdir()) == kept | {newer}
    (tmp_path / f".incomplete.{dead.pid}").mkdir()
    checkpoint.remove_incomplete(tmp_path)
    assert set(tmp_path.iterdir()) == kept | {newer}
    checkpoint.remove_incomplete(tmp_path / "nowhere")


def poisoned(agent: SACAgent) -> SACAgent:
    arrays = agent.arrays()
    name = next(name for name, array in arrays.items() if array.dtype == np.float32 and array.size > 1)
    arrays[name] = np.full_like(arrays[name], np.inf)
    return agent.with_arrays(arrays)


def test_an_agent_that_is_not_finite_is_not_saved(tmp_path, agent):
    good = save(tmp_path, 1, agent)
    with pytest.raises(CheckpointError, match=r"not saved at step 2: .* holds NaN or infinity"):
        save(tmp_path, 2, poisoned(agent))
    assert list(tmp_path.iterdir()) == [good]


def test_a_checkpoint_that_was_poisoned_by_an_older_version_is_passed_over(tmp_path, agent, monkeypatch, caplog):
    good = save(tmp_path, 1, agent)
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "first_unbounded", lambda _arrays: None)
        bad = save(tmp_path, 2, poisoned(agent))
    with pytest.raises(CheckpointError, match=r"agent\.safetensors: .* expected finite numbers"):
        checkpoint.load(bad, agent)
    loaded = checkpoint.load_latest(tmp_path, agent)
    assert loaded is not None
    assert loaded.path == good
    assert str(bad) in caplog.text


def test_a_checkpoint_of_another_meaning_is_refused_field_by_field(tmp_path):
    def agent(scale: float, names: str = "xy") -> SACAgent:
        meaning = {"period": 0.1, "state": [{"name": name, "scale": scale} for name in names]}
        return SACAgent.create(0, TransitionSpec({"state": ((2,), "float32")}, 2, meaning=meaning), CONFIG)

    path = save(tmp_path, 1, agent(0.1))
    checkpoint.load(path, agent(0.1))
    with pytest.raises(CheckpointError, match=r"state\[1\]\.scale \(y\): expected 0.2, found 0.1"):
        checkpoint.load(path, agent(0.2))
    with pytest.raises(CheckpointError, match=r"state\[0\]\.name: expected y, found x"):
        checkpoint.load(path, agent(0.1, "yx"))


def test_a_copy_elsewhere_names_another_place_and_is_as_good(tmp_path, agent):
    path = save(tmp_path / "run", 3, agent, position=Position(1, 50), journal="ours")
    alone = checkpoint.load(checkpoint.copy_elsewhere(path, tmp_path / "alone"), agent)
    assert (alone.position, alone.journal, alone.counters) == (None, "", {"trained": 3})
    assert same_state(alone.agent, agent)
    moved = checkpoint.copy_elsewhere(path, tmp_path / "other", "theirs", Position(0, 7))
    assert checkpoint.read_position(moved) == Position(0, 7)
    assert checkpoint.load(moved, agent).journal == "theirs"


def test_a_manifest_of_an_older_version_is_read(tmp_path, agent):
    path = save(tmp_path, 4, agent)
    manifest = json.loads((path / "manifest.json").read_text())
    for name in ("sha256", "spec", "journal"):
        del manifest[name]
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": "serl-checkpoint-1"}))
    loaded = checkpoint.load(path, agent)
    assert (loaded.step, loaded.journal) == (4, "")
