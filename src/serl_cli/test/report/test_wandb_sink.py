# SPDX-License-Identifier: Apache-2.0
"""Weights & Biases gets what a run has, without a network too; where it fails the training does not notice."""

import contextlib
import json
import os
import sys
from types import SimpleNamespace

import pytest
import yaml
from serl_cli.report import wandb_follower
from serl_cli.report.wandb_follower import ALIASES, STATE_FILE, Progress, named
from serl_cli.report.wandb_sink import LOG_FILE, WandbSink, following
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_training.learner.run_log import RunLog

# Stands for the package where a test needs one that fails or hangs: Python finds it first.
DOUBLE = """
import time
class Settings:
    def __init__(self, **settings): pass
def init(**options): {body}
"""


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "peg")
    run.path.mkdir()
    run.config_file.write_text(yaml.safe_dump({"plan": {"task": "insert_peg", "seed": 3}}))
    run.learning_file.write_text("agent: sac\nutd_ratio: 2\n")
    with RunLog(run.path) as log:
        log.write("learner", 100, {"learner/critic_loss": 0.5, "learner/actor_loss": -1.0})
        log.write("actor", 250, {"eval/success_rate": 0.25, "train/intervention_rate": 0.125, "steps/free": 7.0})
    return run


@pytest.fixture
def double(tmp_path, monkeypatch):
    """A function that puts a package `wandb` in front whose `init` does what it is told."""

    def make(body: str) -> None:
        folder = tmp_path / "double"
        folder.mkdir()
        (folder / "wandb.py").write_text(DOUBLE.format(body=body))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "wandb", raising=False)
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    return make


def sent(run):
    """What wandb's own reader finds in the files of all its offline runs: numbers, artifacts, configuration."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal import datastore

    history, artifacts, configuration = [], [], {}
    for file in sorted((run.path / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime):
        store = datastore.DataStore()
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("history"):
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                history.append({name: value for name, value in items.items() if not name.startswith("_")})
            if record.HasField("artifact"):
                artifacts.append(record.artifact.name)
            if record.request.HasField("log_artifact"):
                artifacts.append(record.request.log_artifact.artifact.name)
            if record.HasField("run"):
                configuration |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    return history, artifacts, configuration


def test_a_run_is_sent_whole_and_a_continued_one_goes_on_where_it_was(run, monkeypatch):
    pytest.importorskip("wandb", reason="./serl setup wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said = []
    with following([run], "robots", "", said.append) as sink:
        run.curve_file.write_bytes(b"a picture")
        run.checkpoints.mkdir()
        (run.checkpoints / "agent").write_bytes(b"weights")
        sink.send_files()
    assert said == [], (run.log_dir / LOG_FILE).read_text()
    history, artifacts, configuration = sent(run)
    losses = {"learner/critic_loss": 0.5, "learner/actor_loss": -1.0, "critic_loss": 0.5, "actor_loss": -1.0}
    rates = {"eval/success_rate": 0.25, "train/intervention_rate": 0.125, "steps/free": 7.0}
    others = {"success_rate": 0.25, "intervention_rate": 0.125}
    assert history == [{"env_steps": 100, **losses}, {"env_steps": 250, **rates, **others}]
    assert artifacts == ["peg-configuration", "peg-learning_curve", "peg-checkpoint"]
    assert configuration["plan"] == {"task": "insert_peg", "seed": 3}
    assert configuration["learning"] == {"agent": "sac", "utd_ratio": 2}
    known = json.loads((run.path / STATE_FILE).read_text())["id"]
    with RunLog(run.path) as log:
        log.write("learner", 400, {"learner/critic_loss": 0.25})
    with following([run], "robots", "", said.append):
        pass
    assert said == []
    assert sent(run)[0][2:] == [{"env_steps": 400, "learner/critic_loss": 0.25, "critic_loss": 0.25}]
    assert json.loads((run.path / STATE_FILE).read_text())["id"] == known


def test_names_of_other_stacks_stand_beside_ours():
    assert set(ALIASES.values()) == {"success_rate", "intervention_rate", "critic_loss", "actor_loss"}
    assert named(5, {"steps/free": 1.0}) == {"steps/free": 1.0, "env_steps": 5}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no API key')", "no API key"),
        ("import no_such_part", "no_such_part"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_one_that_fails_is_told_in_one_line(run, double, wait_until, body, words):
    double(body)
    said = []
    with following([run], "robots", "", said.append) as sink:
        wait_until(lambda: not sink.running, 100.0)
        sink.send_files()  # to somebody who has gone
    assert len(said) == 1 and words in said[0] and str(run.log_dir / LOG_FILE) in said[0]


def test_one_that_hangs_is_left_behind(run, double):
    double("time.sleep(600)")
    said = []
    sink = WandbSink([run], "robots", "", said.append)
    sink.send_files()
    sink.close(patience=0.5)
    assert not sink.running and len(said) == 1 and "wandb sync" in said[0]


class Session(contextlib.ExitStack):
    """Stands for a run of W&B: what it was given is lost where it does not come to its end."""

    def __init__(self, told):
        super().__init__()
        self.log, self.define_metric = told.append, lambda *_, **__: None


@pytest.mark.parametrize("dies", [True, False])
def test_what_was_on_its_way_when_it_died_is_sent_again(run, monkeypatch, dies):
    told = []
    session = Session(told)
    if dies:
        session.callback(lambda: os.fstat(-1))
    wandb = SimpleNamespace(Settings=lambda **_: None, init=lambda **_: session)
    monkeypatch.setattr(wandb_follower, "optional_module", lambda *_, **__: wandb)
    commands, ours = os.pipe()
    os.close(ours)
    with pytest.raises(OSError, match="descriptor") if dies else contextlib.nullcontext():
        wandb_follower.follow(run, "robots", "", commands)
    os.close(commands)
    assert len(told) == 2
    after = Progress(run, "robots")
    assert (after.position == 0) == dies
    assert after.id == json.loads((run.path / STATE_FILE).read_text())["id"]


def test_no_project_starts_nothing(run):
    with following([run], "", "", print) as sink:
        assert sink is None


@pytest.mark.parametrize("text", ["", "[]", '{"project": "p", "id": "x", "position": -1}', '{"project": 1}'])
def test_a_damaged_note_of_what_was_sent_is_named(run, text):
    (run.path / STATE_FILE).write_text(text)
    with pytest.raises(CommandError, match=r"wandb\.json: .*move it away"):
        Progress(run, "p")


def test_another_project_gets_everything(run):
    progress = Progress(run, "p")
    progress.position = 9
    progress.save()
    assert (Progress(run, "p").position, Progress(run, "p").id) == (9, progress.id)
    assert Progress(run, "q").position == 0 and Progress(run, "q").id != progress.id
