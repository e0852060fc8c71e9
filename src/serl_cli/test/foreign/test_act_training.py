# SPDX-License-Identifier: Apache-2.0
"""ACT policies that are trained here: runs of demonstrations, and directories distilled from what a policy does."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from serl_cli.app import main
from serl_cli.work.act import distilling, rollouts, trained_run
from serl_config.schema import load_yaml
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.demonstrations import statistics_of
from serl_rl.foreign.act.directory import ActCheckpoint, read_act
from serl_rl.foreign.act.initial import initial_parameters
from serl_rl.imported.mapping import PolicyMapping

TASK = "pick_cube_vision"
SMALL = ("dim_model=8", "n_heads=2", "dim_feedforward=8", "n_encoder_layers=1", "use_vae=false", "picture_size=32")
SETS = [part for each in SMALL for part in ("--set", each)]


class Expert:
    """Acts as the task's scripted expert does."""

    def __init__(self, world: rollouts.WatchedEnv) -> None:
        self.env = world
        self._expert = world.task.make_expert(np.random.default_rng(0), 0.0)

    def begin(self) -> None:
        self._expert.reset()

    def act(self, observation: Any) -> NDArray[np.float32]:
        del observation
        return np.asarray(self._expert.act(*self.env.known()), np.float32)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Sequence[PictureEpisode]]:
    """What is learned from; the weights stay the first ones."""
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    found: list[Sequence[PictureEpisode]] = []

    def train(episodes: Sequence[PictureEpisode], config: ActConfig, **options: Any) -> ActCheckpoint:
        found.append(episodes)
        options["report"](0, {"loss": 2.0})
        options["report"](1, {"loss": 1.5})
        start: ActCheckpoint | None = options["start"]
        parameters = initial_parameters(config, 0) if start is None else start.parameters
        return ActCheckpoint(config, parameters, statistics_of(episodes))

    monkeypatch.setattr("serl_rl.jax.act.demonstrated.train_act", train)
    return found


def _no_expert(world: rollouts.WatchedEnv) -> SimpleNamespace:
    return SimpleNamespace(
        env=world, begin=lambda: None, act=lambda _: np.zeros(world.action_space.shape or (), np.float32)
    )


def test_what_a_policy_does_becomes_a_directory_with_its_evaluation(
    learned: list[Sequence[PictureEpisode]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def of_reference(text: str, mapping: Path | None, world: rollouts.WatchedEnv) -> Any:
        opened.append((text, mapping))
        return Expert(world) if len(opened) == 1 else _no_expert(world)

    monkeypatch.setattr(distilling, "of_reference", of_reference)
    source, out = tmp_path / "before", tmp_path / "after"
    source.mkdir()
    arguments = [f"act:{source}", "--task", TASK, "--to", f"act:{out}", "--episodes", "2", "--eval-episodes", "1"]
    assert main(["policy", "distill", *arguments, *SETS]) == 0
    (episodes,) = learned
    assert len(episodes) == 2
    for episode in episodes:
        length = len(episode.action)
        assert {name: rows.shape for name, rows in episode.pictures.items()} == {
            "front": (length + 1, 32, 32, 3),
            "wrist": (length + 1, 32, 32, 3),
        }
        assert episode.state.shape == (length + 1, 8)
        assert np.ptp(episode.action, 0).max() > 0.5  # what was executed
        assert np.abs(np.diff(episode.state, axis=0)).max() > 0.01
    assert opened == [(f"act:{source}", None), (f"act:{out}", None)]
    checkpoint = read_act(out)
    assert checkpoint.config.cameras == ("observation.images.front", "observation.images.wrist")
    assert checkpoint.config.dim_model == 8
    mapping = load_yaml(out / "mapping.yaml", PolicyMapping)
    assert mapping.cameras == {"observation.images.front": "front", "observation.images.wrist": "wrist"}
    readme = (out / "README.md").read_text()
    assert "2 successful episodes of\n2, noise 0.25 in every second one" in readme
    assert "0 of 1 episodes succeed: 0.0%" in readme

    # Another one begins with its weights, and has its sizes.
    opened.clear()
    arguments[3:4] = ["--start", str(out), "--to"]
    arguments[arguments.index(f"act:{out}")] = f"act:{tmp_path / 'third'}"
    assert main(["policy", "distill", *arguments, "--set", "epochs=3"]) == 0
    third = read_act(tmp_path / "third")
    assert third.config.dim_model == 8
    for name, values in checkpoint.parameters.items():
        np.testing.assert_array_equal(third.parameters[name], values)


def test_a_policy_that_never_succeeds_is_not_distilled(
    learned: list[Sequence[PictureEpisode]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(distilling, "of_reference", lambda _text, _mapping, world: _no_expert(world))
    arguments = [f"act:{tmp_path}", "--task", TASK, "--to", f"act:{tmp_path / 'out'}", "--episodes", "1"]
    assert main(["policy", "distill", *arguments]) == 1
    assert "expected 1 successes in 4 episodes, found 0: improve it first" in capsys.readouterr().err
    assert not learned
    assert not (tmp_path / "out").exists()


def test_of_pushed_episodes_the_policy_learns_what_was_meant() -> None:
    """Every second episode goes another way than the actions say, and these are still those of the policy."""
    world = rollouts.watched(TASK)
    up = np.array([0, 0, 0.5, 0], np.float32)
    acting = SimpleNamespace(env=world, begin=lambda: None, act=lambda _: up)
    pushes: list[rollouts.PictureEpisode] = []
    kept, world.step = world.step, lambda action: _succeeding(kept(action))  # type: ignore[method-assign]
    try:
        pushes = rollouts.roll_out(acting, world, [7, 7, 7], noise=0.25).successes
    finally:
        world.close()
    np.testing.assert_array_equal(pushes[1].action, np.broadcast_to(up, pushes[1].action.shape))
    np.testing.assert_allclose(
        pushes[0].action[:4], np.broadcast_to(up, (4, 4)), atol=1e-5
    )  # executed; limits come later
    paths = [episode.state for episode in pushes]
    np.testing.assert_array_equal(paths[0], paths[2])
    assert np.abs(paths[1][-1] - paths[0][-1]).max() > 1e-3


def _succeeding(made: Any) -> Any:
    return (*made[:4], {**made[4], "success": True})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HERE", "--to", "lerobot:new"], "--to: expected act:DIRECTORY, found 'lerobot:new'"),
        (["HERE", "--to", "act:no/new"], "no/new: there is no folder"),
        (["HERE", "--task", TASK, "--to", "act:full"], "full: expected a new directory, found one that is not empty"),
        (["HERE", "--to", "act:new"], "of which task? Name it by --task"),
        (["HERE", "--task", "pick_cube", "--to", "act:new"], "pick_cube has no cameras"),
        (["act:nowhere", "--task", TASK, "--to", "act:new"], "nowhere, where nothing is"),
        (["nobody", "--to", "act:new"], "no run 'nobody'"),
        (["HERE", "--task", TASK, "--to", "act:new", "--set", "epochs=many"], "--set epochs=many: expected epochs"),
        (["HERE", "--to", "act:new", "--start", "full", "--set", "dim_model=8"], "--start: the policy keeps its sizes"),
    ],
)
def test_what_cannot_be_distilled_is_said_at_once(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["policy", "distill", *(f"act:{tmp_path}" if each == "HERE" else each for each in arguments)]) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def _episodes() -> list[PictureEpisode]:
    rng = np.random.default_rng(0)
    pictures = {name: rng.integers(0, 255, (21, 16, 16, 3), dtype=np.uint8) for name in ("front", "wrist")}
    return [PictureEpisode(pictures, rng.random((21, 8), np.float32), rng.random((20, 4), np.float32))]


def test_a_run_has_its_policy_and_its_evaluation(
    learned: list[Sequence[PictureEpisode]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is recorded, and what the graph says of the policy, is given; both are tested for themselves."""
    recorded: list[Mapping[str, Any]] = []
    monkeypatch.setattr(trained_run, "record", lambda _task, path, **options: recorded.append({"p": path, **options}))
    monkeypatch.setattr(trained_run, "read_picture_episodes", lambda _paths: _episodes())
    found = SimpleNamespace(success_rate=0.4, successes=4, episodes=10, interval_low=0.2, interval_high=0.6)
    evaluated = []
    monkeypatch.setattr(trained_run, "run_imported", lambda *given, **_: evaluated.append(given[:2]) or found)
    arguments = ["--learning", "act", "--name", "mine", "--demos", "7", *SETS, "--goal"]
    assert main(["train", TASK, *arguments, "0.5"]) == 1
    run = tmp_path / "runs" / "mine"
    assert recorded[0]["p"] == run.relative_to(run) / run / "demonstrations.serl"
    assert recorded[0]["episodes"] == 7
    assert evaluated == [(TASK, f"act:{run / 'act'}")]
    assert read_act(run / "act").config.dim_model == 8
    result = json.loads((run / "result.json").read_text())
    assert (result["success"], result["success_rate"]) == (False, 0.4)
    learning = yaml.safe_load((run / "learning.yaml").read_text())
    assert (learning["agent"], learning["picture_size"]) == ("act", 32)
    assert "dim_model=8" in learning["policy"]
    metrics = (run / "metrics.csv").read_text()
    assert ",1,act,act/loss,2.0" in metrics
    assert "eval/success_rate,0.4" in metrics
    assert (run / "learning_curve.png").is_file()
    assert f"--from-policy act:{run / 'act'}" in capsys.readouterr().out

    assert main(["train", "--resume", "mine"]) == 1
    assert "which is trained in one go: begin anew" in capsys.readouterr().err
    given = []
    monkeypatch.setattr(
        "serl_cli.work.evaluate_policy.evaluate_imported", lambda *what, **options: given.append((what, options))
    )
    assert main(["eval", "mine", "--episodes", "3"]) == 0
    assert given[0][0][:2] == (TASK, f"act:{run / 'act'}")
    assert given[0][1]["episodes"] == 3
    assert main(["train", TASK, *arguments[:2], "--goal", "0.3", *SETS]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pick_cube"], "pick_cube has no cameras, and ACT looks at pictures"),
        ([TASK, "--demos", "0"], "--demos of at least 1, or --demo-file"),
        ([TASK, "--max-steps", "5"], "--max-steps has no meaning with --learning act"),
        ([TASK, "--with", "pick_cube"], "--with has no meaning with --learning act"),
        ([TASK, "--from-policy", "act:x"], "--from-policy has no meaning"),
        ([TASK, "--set", "sac.discount=0.9"], "sac.discount"),
        ([TASK, "--set", "batch_size=0"], "batch_size"),
        ([TASK, "--demo-file", "FILE"], "demonstrations"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_made(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "shown.serl"
    file.write_bytes(b"no demonstrations")
    arguments = [str(file) if each == "FILE" else each for each in arguments]
    assert main(["train", *arguments, "--learning", "act"]) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()
