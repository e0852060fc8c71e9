# SPDX-License-Identifier: Apache-2.0
"""Online learning in one process: the example of docs/lerobot.md, and what ends it."""

import csv
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinematic_arm import Clock, KinematicArm
from serl_config.schema import ConfigError
from serl_lerobot.robots.joint_map import FeatureError
from serl_lerobot.training.config import TrainingConfig
from serl_lerobot.training.online_trainer import OnlineRLTrainer
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk
from serl_rl.storage.journal import read_journal
from serl_robots.model.robot import load_robot

PIPER = load_robot("piper")


class Interrupted(KinematicArm):
    """A robot whose person presses Ctrl-C after some targets."""

    def __init__(self, targets: int, cameras: tuple[str, ...] = ()) -> None:
        super().__init__(PIPER.arm_joints, np.degrees(PIPER.configuration("ready")).tolist(), cameras)
        self.left = targets

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().send_action(action)


def turned(observation: dict[str, Any]) -> bool:
    """Whether the first joint has been turned to the left."""
    return bool(observation["state"][0] > 0.15)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_learns_what_a_reward_asks_for_and_goes_on_from_where_it_was(tmp_path: Path) -> None:
    config = TrainingConfig(
        max_episode_length=12, batch_size=32, action_dim=7, reward_function=turned, run_dir=tmp_path, model="piper"
    )
    with OnlineRLTrainer(config, Interrupted(0), wall=Clock().wall) as trainer:
        metrics = trainer.run_training(num_iterations=6, episodes_per_iteration=10)
    learned = float(np.mean([each["success_rate"] for each in metrics[3:]]))  # of 30 episodes that explore
    assert learned >= 0.8 > 0.5 >= metrics[0]["success_rate"], metrics
    assert {"critic_loss", "actor_loss", "intervention_rate"} <= metrics[-1].keys()
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        assert [float(row["success_rate"]) for row in csv.DictReader(file)] == [m["success_rate"] for m in metrics]

    with OnlineRLTrainer(config, Interrupted(1200), wall=Clock().wall) as again:
        more = again.run_training(num_iterations=50, episodes_per_iteration=10)
    assert 0 < len(more) < 50  # Ctrl-C has ended it
    assert more[0]["env_steps"] > metrics[-1]["env_steps"]
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:  # nothing of the first run is lost
        rows = [(float(row["iteration"]), float(row["env_steps"])) for row in csv.DictReader(file)]
    assert rows == [(i, each["env_steps"]) for i, each in enumerate([*metrics, *more])]
    (tmp_path / "metrics.csv").write_text("time,height\n1,2\n", encoding="utf-8")
    says = r"metrics\.csv: expected rows of iteration, .*found time, height"
    with OnlineRLTrainer(config, Interrupted(0), wall=Clock().wall) as refused, pytest.raises(ConfigError, match=says):
        refused.run_training(num_iterations=1, episodes_per_iteration=1)


def test_a_robot_that_nobody_describes_and_another_number_of_actions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model: say which of .*; with joints a.pos there is none"):
        OnlineRLTrainer(TrainingConfig(run_dir=tmp_path), KinematicArm(("a",), [0.0]))
    with pytest.raises(ConfigError, match="action_dim: expected 7, as the robot's actions have, found 6"):
        OnlineRLTrainer(TrainingConfig(run_dir=tmp_path, model="piper", action_dim=6), Interrupted(0))
    with pytest.raises(ConfigError, match="batch_size: expected 2 or more, found 1"):
        TrainingConfig(batch_size=1)


def write_policy(path: Path, robot: KinematicArm, target: list[float]) -> None:
    """An ACT of LeRobot's format that wants the robot at `target` always, whatever it sees."""
    from serl_rl.foreign.act.config import parse_config
    from serl_rl.foreign.act.directory import ActCheckpoint
    from serl_rl.foreign.act.initial import initial_parameters
    from serl_rl.foreign.act.writing import write_act

    count = len(target)
    tree = {
        "type": "act", "chunk_size": 10, "n_action_steps": 10, "dim_model": 16, "n_heads": 2, "dim_feedforward": 16,
        "n_encoder_layers": 1, "use_vae": False, "n_vae_encoder_layers": 1,
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [count]},
            "observation.images.front": {"type": "VISUAL", "shape": [3, 48, 64]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [count]}},
    }  # fmt: skip
    config = parse_config(tree, "a test")
    ones = np.ones(count, np.float32)
    pictures = np.ones((3, 1, 1), np.float32)
    statistics = {
        "observation.state": {"mean": 0 * ones, "std": 100 * ones},
        "observation.images.front": {"mean": 0 * pictures, "std": pictures},
        "action": {"mean": np.array(target, np.float32), "std": 1e-4 * ones},
    }
    path.parent.mkdir(parents=True)
    write_act(path, ActCheckpoint(config, initial_parameters(config, 0), statistics))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_example_of_the_page_runs_on_a_robot_and_a_policy_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/lerobot.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "OnlineRLTrainer(" in block]
    my_robot = Interrupted(12_000, cameras=("front",))
    home = np.degrees(PIPER.configuration("home")).tolist()
    write_policy(tmp_path / "path/to/act/policy", my_robot, [home[0] + 12.0, *home[1:], 50.0])
    clock, asked = Clock(), []

    def answer(_question: str) -> str:
        asked.append(my_robot.state["joint1.pos"] > 10.0)
        return "y" if asked[-1] else "n"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("serl_lerobot.robots.environment.WallTime", lambda: clock.wall)
    monkeypatch.setenv("WANDB_MODE", "offline")
    names: dict[str, Any] = {"my_robot": my_robot}
    exec(compile(example, "docs/lerobot.md", "exec"), names)  # noqa: S102
    trainer = names["trainer"]
    assert asked[:10] == [True] * 10  # the policy has shown it
    assert trainer.metrics and trainer.metrics[-1]["env_steps"] >= 500
    assert (tmp_path / "runs/online/checkpoints").is_dir() and (tmp_path / "runs/online/metrics.csv").is_file()


def test_a_policy_of_another_robot_is_refused(tmp_path: Path) -> None:
    robot = Interrupted(0)
    write_policy(tmp_path / "act/policy", robot, [0.0] * 7)
    with pytest.raises(FeatureError, match=r"observation.images.front .*pictures of no camera, which the robot has"):
        OnlineRLTrainer(TrainingConfig(run_dir=tmp_path, model="piper"), robot, tmp_path / "act/policy")


class Lit(KinematicArm):
    """A robot whose camera sees light or darkness, by turns of the episodes."""

    def __init__(self) -> None:
        super().__init__(PIPER.arm_joints, np.degrees(PIPER.configuration("ready")).tolist(), ("front",))
        self.episode = 0

    def place(self) -> None:
        self.episode += 1

    def get_observation(self) -> dict[str, Any]:
        picture = np.full((48, 64, 3), 220 if self.episode % 2 else 20, np.uint8)
        return {**super().get_observation(), "front": picture}


def turned_by_the_light(observation: dict[str, Any]) -> bool:
    """Whether the first joint has been turned to the left in the light, or a little to the right in the dark."""
    is_light = observation["front"].mean() > 128
    return bool(observation["state"][0] > 0.12 if is_light else observation["state"][0] < -0.04)


def stored(run_dir: Path, spec: TransitionSpec) -> list[Chunk]:
    return [decode_chunk(record.data, spec) for _, record in read_journal(run_dir / "journal", spec)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_initial_policy_would_do_stands_beside_what_cameras_see(tmp_path: Path) -> None:
    robot = Lit()
    home = np.degrees(PIPER.configuration("home")).tolist()
    for name, degrees in (("act", 12.0), ("other", -12.0)):
        write_policy(tmp_path / name / "policy", robot, [home[0] + degrees, *home[1:], 50.0])
    config = TrainingConfig(
        max_episode_length=10,
        batch_size=32,
        model="piper",
        reward_function=turned_by_the_light,
        place=robot.place,
        demonstration_episodes=4,
        run_dir=tmp_path / "run",
    )
    with OnlineRLTrainer(config, robot, tmp_path / "act/policy", wall=Clock().wall) as trainer:
        (metrics,) = trainer.run_training(num_iterations=1, episodes_per_iteration=6)
    assert metrics["success_rate"] == 0.5  # the first steps are the policy's own, which turns to the left alone
    state = ArraySpec((13,), "float32")
    spec = trainer.spec
    assert spec.observation["state"] == state and spec.observation["base_action"].shape == (7,)
    assert spec.observation["front"].kind == "features"
    chunks = stored(config.run_dir, spec)
    assert [chunk.success for chunk in chunks if chunk.demonstration and chunk.last] == [True, True]
    for chunk in chunks:
        turn = (math.radians(12.0) - chunk.observation["state"][:, 0]) / 0.05  # it moves 0.05 rad at most
        np.testing.assert_allclose(chunk.observation["base_action"][:, 0], np.clip(turn, -1.0, 1.0), atol=0.05)
        full = chunk.observation["base_action"][:-1, 0] > 0.99
        assert (chunk.action[full, 0] > 0.4).all()  # it acts, within the limits of speed and acceleration
    dark = next(chunk for chunk in chunks if not chunk.success and chunk.last).observation["front"]
    light = next(chunk for chunk in chunks if chunk.success).observation["front"]
    assert np.abs(dark[-1].astype(float) - light[-1].astype(float)).max() > 0.01

    with (
        OnlineRLTrainer(config, robot, tmp_path / "other/policy", wall=Clock().wall) as other,
        pytest.raises(ConfigError, match="begun with another initial policy"),
    ):
        other.run_training(num_iterations=1, episodes_per_iteration=1)
