# SPDX-License-Identifier: Apache-2.0
"""A damaged run becomes one that can be continued."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_bench.graph.peers_node import STATE, numbered_chunk
from serl_cli.app import main
from serl_cli.work.repair_run import repair
from serl_launch.runs import Run
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.storage.chunk import encode_chunk
from serl_rl.storage.journal import Journal, JournalError, Record, read_journal

from serl_rl import checkpoint

POLICY = PolicySnapshot({"head/bias": np.zeros(8, np.float32)}, {"state": 1}, "relu", SquashedGaussian((-5.0, 2.0)))


class Agent:
    """With one number."""

    spec = STATE

    def arrays(self) -> dict[str, Any]:
        return {"number": np.ones(1, np.float32)}

    def with_arrays(self, arrays: Any) -> "Agent":
        return self

    def policy_snapshot(self) -> PolicySnapshot:
        return POLICY


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Ten chunks of 10 transitions; checkpoints behind the third, sixth and last one."""
    run = Run(tmp_path / "runs" / "mine")
    run.path.mkdir(parents=True)
    run.config_file.write_text("plan: {}\n")
    rng = np.random.default_rng(0)
    with Journal(run.path / "journal", STATE, sync_interval=None, segment_bytes=8000) as journal:
        for number in range(10):
            data = encode_chunk(numbered_chunk(STATE, 10 * number, 10, rng))
            position = journal.append(Record("bench", "s", 10 * number, 10, data))
            if number in (2, 5, 9):
                steps = 10 * (number + 1)
                checkpoint.save(
                    run.checkpoints,
                    steps,
                    Agent(),
                    counters={"env_steps": steps},
                    rng=rng,
                    position=position,
                    journal=journal.id,
                )
    return run


def damage(run: Run, number: int) -> None:
    """Flip a bit in a record."""
    record = [bytes(entry.data) for _, entry in read_journal(run.path / "journal", STATE)][number]
    for path in (run.path / "journal").glob("*.segment"):
        data = path.read_bytes()
        if (place := data.find(record)) >= 0:
            path.write_bytes(data[: place + 50] + bytes([data[place + 50] ^ 4]) + data[place + 51 :])


@pytest.mark.parametrize(("number", "step"), [(1, None), (4, 30), (7, 60)])
def test_all_but_the_damaged_record_is_saved_with_the_newest_checkpoint_that_fits(run, tmp_path, number, step) -> None:
    damage(run, number)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    target = Run(tmp_path / "runs" / "again")
    target.path.mkdir()
    saved = repair(run, target)
    assert (saved.transitions, saved.behind, saved.step) == (90, 10 * (9 - number), step)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    records = list(read_journal(target.path / "journal", STATE))
    assert sum(record.count for _, record in records) == 90
    assert target.config_file.read_text() == "plan: {}\n"
    newest = checkpoint.latest(target.checkpoints)
    assert (newest is None) == (step is None)
    if newest is not None:
        loaded = checkpoint.load(newest, Agent())
        before_damage = [position for position, record in records if record.session_id == "s"]
        assert loaded.position == before_damage[loaded.counters["env_steps"] // 10 - 1]
        assert loaded.journal not in ("", checkpoint.load(checkpoint.listing(run.checkpoints)[0], Agent()).journal)


def test_what_cannot_be_saved_leaves_nothing_behind(run, tmp_path) -> None:
    for path in (run.path / "journal").glob("*.segment"):
        path.write_bytes(b"\0" * 1000)
    target = Run(tmp_path / "runs" / "again")
    for _ in range(2):
        target.path.mkdir()
        with pytest.raises(JournalError):
            repair(run, target)
        assert not target.path.exists()


def test_the_command_says_how_to_go_on(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    damage(run, 4)
    with pytest.raises(JournalError, match=r"\./serl repair RUN"):
        list(read_journal(run.path / "journal", STATE))
    assert main(["repair", "mine"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"not read: \S+\.segment: \d+ bytes from byte \d+ on\n", out)
    assert "left out: checkpoints of step 60, 100" in out
    assert "90 transitions, 50 of them behind the damage; checkpoint of step 30" in out
    assert "./serl train --resume mine-repaired" in out
    assert main(["repair", "mine"]) == 1
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "lost"),
    [
        (lambda data: data[:-1], 10),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), 10),
        (lambda data: data + b"\0" * 7, 0),
        (lambda data: data + b"\0" * 4096, 0),
    ],
    ids=["a byte is missing", "a bit is flipped", "half a prefix", "a block of zeros"],
)
def test_damage_at_the_very_end_is_told(run, monkeypatch, capsys, spoil, lost) -> None:
    """A learner that goes on drops half a record there; whoever asks for a repair hears of it."""
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    path = max((run.path / "journal").glob("*.segment"))
    before = path.stat().st_size
    path.write_bytes(spoil(path.read_bytes()))
    assert main(["repair", "mine"]) == 0
    out = capsys.readouterr().out
    told = re.search(rf"not read: {re.escape(str(path))}: (\d+) bytes from byte (\d+) on; half a record", out)
    assert told is not None, out
    assert int(told[1]) + int(told[2]) == path.stat().st_size
    assert (int(told[2]) == before) == (lost == 0)
    assert f"{100 - lost} transitions, 0 of them behind the damage; " in out
    assert ("left out: checkpoints of step 100:" in out) == (lost > 0)


def test_records_that_are_gone_without_a_trace_show_by_the_checkpoints_that_know_them(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    positions = [position for position, _ in read_journal(run.path / "journal", STATE)]
    path = max((run.path / "journal").glob("*.segment"))
    assert positions[-2].segment == positions[-1].segment == int(path.stem)
    path.write_bytes(path.read_bytes()[: positions[-2].offset])
    assert main(["repair", "mine"]) == 0
    out = capsys.readouterr().out
    assert "not read" not in out
    assert "left out: checkpoints of step 100: damaged, or trained on what is no longer there" in out


def test_a_run_without_damage_is_copied_and_that_is_said(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    assert main(["repair", "mine"]) == 0
    out = capsys.readouterr().out
    assert "nothing is damaged: this is a copy" in out
    assert "not read" not in out and "left out" not in out
