# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own commands at the running, simulated graph, by the plug-ins that they find by themselves."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_lerobot.graph_arm import action_features
from serl_training.env.graph_env import GraphEnv

from serl_lerobot import compat

pytestmark = [
    pytest.mark.skipif(not compat.is_installed(), reason="LeRobot is not installed: ./serl setup lerobot"),
    pytest.mark.graph,
    pytest.mark.timeout(400),
]

TASK = "pick_cube_vision"
NODES = {
    "serl_sim.mujoco_bridge_node": (),
    "serl_robots.arm_controller_node": ("-p", "lockstep:=true"),
    "serl_training.reward_node": (),
    "serl_teleop.scripted_human_node": ("-p", "demonstration_noise:=0.0"),
}
RECORD = (
    "--robot.type=serl", f"--robot.task={TASK}", "--robot.lockstep=true", "--robot.id=graph", "--dataset.fps=10",
    "--dataset.single_task=Pick up the cube.", "--dataset.push_to_hub=false", "--dataset.reset_time_s=0",
    "--play_sounds=false",
)  # fmt: skip
OLD = ("--dataset.vcodec=h264",)
NEW = ("--dataset.rgb_encoder.vcodec=h264", "--dataset.no_stamp=true")
"""What LeRobot 0.6 has in the place of that, and what keeps the name of a dataset as it is given."""


@pytest.fixture
def graph(processes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("HF_HOME", "HF_LEROBOT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for module, arguments in NODES.items():
        program = f"from {module} import main; main()"
        processes.start(sys.executable, "-c", program, "--ros-args", "-p", f"task:={TASK}", *arguments)
    return processes


def run(graph: Any, command: str, *arguments: str) -> None:
    """A command of LeRobot to its end, as it is typed in a shell of the workspace."""
    process = graph.start(command, *arguments)
    assert process.wait(300.0) == 0, process.output()


def test_lerobot_records_the_person_of_the_graph_and_then_a_policy_of_its_own(graph: Any, tmp_path: Path) -> None:
    has_rollout = importlib.util.find_spec("lerobot.rollout") is not None  # LeRobot 0.6
    film = NEW if has_rollout else OLD
    shown = ("--dataset.repo_id=test/shown", f"--dataset.root={tmp_path / 'shown'}", "--dataset.num_episodes=2", *film)
    person = ("--teleop.type=serl", f"--teleop.task={TASK}", "--dataset.episode_time_s=3")
    run(graph, "lerobot-record", *RECORD, *shown, *person)
    av, datasets = compat.load("av"), compat.load("lerobot.datasets.lerobot_dataset")
    dataset = datasets.LeRobotDataset("test/shown", root=tmp_path / "shown")
    assert dataset.num_episodes == 2
    assert dataset.meta.features["action"]["names"] == [*action_features(TASK)]
    assert dataset[0]["observation.images.front"].shape == (3, 128, 128)  # decoded from the film
    rows = dataset.hf_dataset.with_format("numpy")
    actions, states = np.array(rows["action"][:]), np.array(rows["observation.state"][:])
    assert len(actions) > 20 and np.abs(actions[:, :3]).max() > 0.5  # somebody led
    assert np.ptp(states, axis=0).max() > 0.5  # and the arm went
    with av.open(str(next((tmp_path / "shown/videos/observation.images.front").rglob("*.mp4")))) as video:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(pictures) == len(actions) and np.abs(pictures[0] - pictures[-1]).max() > 50

    if has_rollout:
        return  # lerobot-rollout knows positions and velocities of joints alone
    save_policy(dataset, tmp_path / "policy")
    acted = ("--dataset.repo_id=test/eval_acted", f"--dataset.root={tmp_path / 'acted'}", "--dataset.num_episodes=1")
    policy = (f"--policy.path={tmp_path / 'policy'}", "--dataset.episode_time_s=3", *film)
    run(graph, "lerobot-record", *RECORD, *acted, *policy)
    acted_by = datasets.LeRobotDataset("test/eval_acted", root=tmp_path / "acted")
    assert acted_by.num_episodes == 1 and len(acted_by) >= 1


def save_policy(dataset: Any, path: Path) -> None:
    """An untrained ACT of LeRobot for this dataset, with its processors."""
    settings = compat.load("lerobot.policies.act.configuration_act")
    factory = compat.load("lerobot.policies.factory")
    config = settings.ACTConfig(
        device="cpu", push_to_hub=False, pretrained_backbone_weights=None, chunk_size=4, n_action_steps=4, dim_model=32,
        n_heads=2, dim_feedforward=32, n_encoder_layers=1, n_vae_encoder_layers=1,
    )  # fmt: skip
    policy = factory.make_policy(config, ds_meta=dataset.meta)
    policy.save_pretrained(path)
    for processor in factory.make_pre_post_processors(config, dataset_stats=dataset.meta.stats):
        processor.save_pretrained(path)


def test_a_camera_of_the_graph_is_one_of_lerobots(graph: Any) -> None:
    cameras = compat.load("lerobot.cameras.utils")
    compat.load("lerobot.utils.import_utils").register_third_party_plugins()
    config = compat.load("lerobot.cameras").CameraConfig.get_choice_class("serl")(camera="front", width=64, height=48)
    camera = cameras.make_cameras_from_configs({"front": config})["front"]
    env = GraphEnv(TASK, reset_timeout=60.0)
    try:
        env.reset(seed=0)
        camera.connect(warmup=False)
        for _ in range(50):
            env.step(env.rest_action)  # in lockstep a picture comes with each step
            try:
                picture = camera.async_read(200.0)
                break
            except TimeoutError:
                continue
        assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8 and picture.std() > 1.0
        assert (camera.read_latest() == picture).all()
        with pytest.raises(TimeoutError, match=r"front: expected a picture within 0.01 s, found none"):
            camera.async_read(10.0)
    finally:
        camera.disconnect()
        env.close()


def test_a_teleoperator_without_a_robot_says_what_it_needs() -> None:
    compat.load("lerobot.utils.import_utils").register_third_party_plugins()
    config = compat.load("lerobot.teleoperators").TeleoperatorConfig.get_choice_class("serl")(task=TASK)
    teleoperator = compat.load("lerobot.teleoperators").make_teleoperator_from_config(config)
    with pytest.raises(ConnectionError, match="call connect"):
        teleoperator.get_action()
    teleoperator.connect()  # the robot may follow
    with pytest.raises(RuntimeError, match="expected a connected robot of type serl in this process, found none"):
        teleoperator.get_action()
    teleoperator.disconnect()
