# SPDX-License-Identifier: Apache-2.0
"""What the actor makes of pictures, and what learner and actor agree on."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_config.schema import ConfigError
from serl_rl.backends import create_agent
from serl_rl.config import EncoderConfig, LearningConfig, SACConfig, VisionConfig
from serl_rl.encoders.file import EncoderError
from serl_rl.spec import TransitionSpec
from serl_robots.control.action import ActionSpec
from serl_tasks.camera_view import CameraView
from serl_tasks.kinds.pick_cube import PickSuccess
from serl_training.actor.perception import FrameStacker, make_perception
from serl_training.link.contract import find_encoder, load_learning, transition_spec

import serl_sim
from serl_tasks import Task, get_task

STATE, VISION = get_task("pick_cube"), get_task("pick_cube_vision")


def settings(**encoder) -> LearningConfig:
    return LearningConfig(vision=VisionConfig(encoder=EncoderConfig(weights="random", **encoder)))


def test_a_task_names_its_own_settings_and_another_name_wins():
    assert load_learning("", VISION) == load_learning("rlpd_vision", STATE)
    assert load_learning("rlpd_state", VISION) == load_learning("", STATE)


@pytest.mark.parametrize("robot", ["so101", "fr3", "piper", "trossen"])
def test_each_arm_has_the_task_from_cameras_with_weights_that_real_cameras_may_have(robot: str):
    task, known = get_task(f"pick_cube_vision_{robot}"), get_task(f"pick_cube_{robot}")
    assert (task.robot, task.action, task.limits, task.success) == (robot, known.action, known.limits, known.success)
    assert not any("cube" in term.name for term in task.state)
    config = load_learning("", task)
    assert find_encoder(task, config, simulated=True) is not None
    own = load_learning("rlpd_vision_own_cameras", task)
    assert find_encoder(task, own, simulated=False) is not None
    shipped = load_learning("rlpd_vision", task)
    assert replace(own, vision=replace(own.vision, encoder=shipped.vision.encoder)) == shipped


def test_a_policy_for_each_arm_is_for_tasks_of_two(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("policies: per_arm\n")
    assert load_learning(str(file), get_task("lift_bar")).policies == "per_arm"
    with pytest.raises(ConfigError, match=rf"own\.yaml: policies: expected one for {STATE.name}, which has one arm"):
        load_learning(str(file), STATE)


def test_a_task_without_cameras_needs_no_encoder():
    assert find_encoder(STATE, settings()) is None
    spec = transition_spec(STATE, settings(), None)
    assert replace(spec, meaning={}) == TransitionSpec.from_spaces(STATE.observation_space, STATE.action_space)


ACTING = """
import sys
from pathlib import Path

import numpy as np
import serl_training.actor_node
from serl_rl.backends import make_policy
from serl_rl.config import LearningConfig
from serl_rl.policy.snapshot import PolicySnapshot
from serl_tasks import get_task
from serl_training.actor.perception import make_perception

make_perception(get_task("pick_cube"), LearningConfig(backend=sys.argv[1]), 0)
for file in sys.argv[2:]:
    snapshot = PolicySnapshot.from_bytes(Path(file).read_bytes())
    policy = make_policy(snapshot, None, sys.argv[1])
    shapes = {**snapshot.observation, **(snapshot.frames.shapes if snapshot.frames else {})}
    policy.act({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, deterministic=True)
sys.exit(", ".join(sorted({"jax", "flax", "optax", "torch"} & sys.modules.keys())) or 0)
"""


def test_what_acts_on_vectors_and_on_cached_features_loads_no_backend(tmp_path: Path):
    files, config = [], replace(settings(), sac=SACConfig(hidden_sizes=(8,)))
    for task in (STATE, VISION):
        spec = transition_spec(task, config, find_encoder(task, config))
        files.append(tmp_path / f"{task.name}.safetensors")
        files[-1].write_bytes(create_agent(0, spec, config).policy_snapshot().to_bytes())
    for backend in ("jax", "torch"):
        run = subprocess.run(
            [sys.executable, "-c", ACTING, backend, *files], capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stderr) == (0, "")


SEEING = """
import sys

from serl_rl.config import EncoderConfig, LearningConfig, VisionConfig
from serl_tasks import get_task
from serl_training.actor.perception import make_perception
from serl_training.graph_jax import prepare_backend

prepare_backend(None, "", "torch")
vision = VisionConfig(encoder=EncoderConfig(weights="random"))
assert make_perception(get_task("pick_cube_vision"), LearningConfig(backend="torch", vision=vision), 0).encoder
import torch

assert torch.get_num_threads() == 1, "the other cores are the graph's"
sys.exit(", ".join({"jax", "flax", "optax"} & sys.modules.keys()) or 0)
"""


def test_what_sees_by_pytorch_has_one_thread_and_no_jax():
    pytest.importorskip("torch", reason="./serl setup torch")
    run = subprocess.run([sys.executable, "-c", SEEING], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_features_stand_for_pictures_where_the_encoder_is_frozen():
    weights = find_encoder(VISION, settings())
    assert weights is not None
    cached = transition_spec(VISION, settings(views=3), weights)
    assert cached.encoder == weights.hash
    assert cached.observation["front"].shape == (3, 4, 4, 64)
    for pixels in (settings(frozen=False), settings(cached=False)):
        spec = transition_spec(VISION, pixels, weights)
        assert spec.encoder == ""
        assert spec.observation["front"].shape == (128, 128, 3)


def test_random_weights_of_another_seed_make_another_specification():
    specs = {transition_spec(VISION, s, find_encoder(VISION, s)) for s in (settings(seed=0), settings(seed=1))}
    assert len(specs) == 2


def test_shipped_weights_are_for_the_simulated_world_and_refused_for_real_cameras():
    config = load_learning("", VISION)
    encoder = find_encoder(VISION, config, simulated=True)
    assert encoder is not None
    assert encoder.name.endswith("small.safetensors")
    for make in (find_encoder, lambda task, config: make_perception(task, config, seed=0)):
        with pytest.raises(EncoderError, match=r"real cameras \(the cameras .*front.*the world table"):
            make(VISION, config)


def test_an_encoded_environment_gives_what_the_specification_says():
    perception = make_perception(VISION, settings(), seed=0)
    env = perception.wrap(serl_sim.make("pick_cube_vision"))
    observation, _ = env.reset(seed=0)
    following, *_ = env.step(np.zeros(4, np.float32))
    for seen in (observation, following):
        assert {name: (rows.shape, rows.dtype.name) for name, rows in seen.items()} == {
            name: (entry.shape, entry.dtype) for name, entry in perception.spec.observation.items()
        }
    env.close()


def test_the_views_are_of_the_same_picture_and_the_first_is_unshifted():
    perception = make_perception(VISION, settings(), seed=0)
    env = perception.wrap(serl_sim.make("pick_cube_vision"))
    first, second = (env.reset(seed=0)[0] for _ in range(2))
    np.testing.assert_array_equal(first["front"][0], second["front"][0])
    assert not np.array_equal(first["front"][1], second["front"][1])  # shifted at random, each time anew
    env.close()


def test_cameras_of_several_sizes_are_encoded():
    task = replace(VISION, cameras={"front": CameraView(size=(128, 128)), "wrist": CameraView(size=(64, 96))})
    perception = make_perception(task, settings(), seed=0)
    env = perception.wrap(serl_sim.make(task))
    observation, _ = env.reset(seed=0)
    assert observation["wrist"].shape == perception.spec.observation["wrist"].shape
    env.close()


def frames(start: int, count: int) -> list[dict]:
    return [{"state": np.zeros(1, np.float32), "cam": np.full((2, 2, 3), start + i, np.uint8)} for i in range(count)]


def test_stacks_hold_the_newest_frames_oldest_first_and_begin_with_the_first():
    spec = TransitionSpec({"state": ((1,), "float32"), "cam": ((2, 2, 3), "uint8")}, 1, frame_stack=3)
    stack = FrameStacker(spec)
    for start in (10, 20):
        stack.reset()
        seen = [stack(frame)["cam"][0, 0, ::3].tolist() for frame in frames(start, 4)]
        assert seen == [
            [start, start, start],
            [start, start, start + 1],
            [start, start + 1, start + 2],
            [start + 1, start + 2, start + 3],
        ]


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_without_stacks_an_observation_stays_as_it_is(dtype):
    shape = (2, 2, 3) if dtype == "uint8" else (2, 2, 2, 3)
    spec = TransitionSpec({"cam": (shape, dtype)}, 1, encoder="" if dtype == "uint8" else "h")
    observation = {"cam": np.zeros(shape, dtype)}
    assert FrameStacker(spec)(observation) is observation


NAMES = STATE.action.names


def changed(**values: Any) -> Task:
    """The state task with some keys of its file changed."""
    return replace(STATE, **values)


@pytest.mark.parametrize(
    ("task", "difference"),
    [
        (changed(state=STATE.state[::-1]), r"state\[0\]\.name: expected tcp_position\[0\], found cube_from_tcp"),
        (
            changed(state=(replace(STATE.state[0], scale=(0.15, 0.15, 0.2)), *STATE.state[1:])),
            r"state\[2\]\.scale \(tcp_position\[2\]\): expected 0\.15, found 0\.2",
        ),
        (
            changed(state=(replace(STATE.state[0], shift=(0.4, 0.0, 0.15)), *STATE.state[1:])),
            r"state\[0\]\.shift \(tcp_position\[0\]\): expected 0\.5, found 0\.4",
        ),
        (changed(action=ActionSpec(NAMES, (0.01, 0.04, 0.04, 0.08))), r"action\[0\]\.scale \(dx\): .* found 0\.01"),
        (changed(control_period=0.05), r"control_period: expected 0\.1, found 0\.05"),
        (changed(success=PickSuccess(lift=0.05, in_hand=0.03)), r"judging\.success\.lift: expected 0\.1, found 0\.05"),
        (changed(kind="push_cube"), r"kind: expected pick_cube, found push_cube"),
    ],
    ids=["order", "scale", "shift", "action scale", "period", "success", "kind"],
)
def test_what_gives_numbers_another_meaning_is_told_field_by_field(task, difference):
    ours, theirs = (transition_spec(each, settings(), None) for each in (STATE, task))
    assert ours.observation == theirs.observation
    assert not ours.agrees(theirs)
    assert ours.meaning_hash != theirs.meaning_hash
    assert re.search(difference, ours.difference(theirs))


@pytest.mark.parametrize("part", ["size", "crop", "name"])
def test_another_view_of_a_camera_has_another_meaning(part):
    view = VISION.cameras["wrist"]
    other = replace(view, size=(64, 64)) if part == "size" else replace(view, crop=(0.1, 0.1, 0.5, 0.5))
    cameras = dict(VISION.cameras) | {"wrist": other}
    if part == "name":
        cameras["side"] = cameras.pop("wrist")
    assert not transition_spec(VISION, settings(frozen=False), None).agrees(
        transition_spec(replace(VISION, cameras=cameras), settings(frozen=False), None)
    )


def test_what_only_shapes_what_happens_does_not_change_the_meaning():
    cube = replace(STATE.objects["cube"], mass=0.1, lower=(0.45, -0.05))
    same = changed(
        name="mine",
        description="the same",
        horizon=80,
        limits=replace(STATE.limits, max_velocity=0.1),
        start=replace(STATE.start, tcp_position=(0.5, 0.0, 0.25)),
        objects={"cube": cube},
        learning="bc",
        plausible_state=1e5,
    )
    ours, theirs = (transition_spec(each, settings(), None) for each in (STATE, same))
    assert ours == theirs
    assert ours.meaning_hash == theirs.meaning_hash
    assert (ours.plausible.vector, theirs.plausible.vector) == (1e3, 1e5)
