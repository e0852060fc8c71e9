# SPDX-License-Identifier: Apache-2.0
"""Demonstrations that were recorded in one place are learned from in another, with whatever encoder is chosen there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from serl_rl.config import EncoderConfig, LearningConfig, VisionConfig
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.demonstrations import DemonstrationError, DemonstrationFile, read_demonstrations
from serl_training.actor import demonstrations
from serl_training.actor.demonstrations import load_demonstrations
from serl_training.actor.perception import Perception, make_perception
from serl_training.actor.rollout import ChunkBuilder, ChunkFormat, StepOutcome
from serl_training.env.episode import EpisodeMode, EpisodeStart

import serl_sim
from serl_tasks import get_task

TASK = get_task("pick_cube_vision")
CAMERAS = tuple(TASK.cameras)


def perception(**settings: object) -> Perception:
    encoder = {key: value for key, value in settings.items() if key != "frame_stack"}
    stack = {key: value for key, value in settings.items() if key == "frame_stack"}
    vision = VisionConfig(encoder=EncoderConfig(**{"weights": "random", **encoder}), **stack)  # type: ignore[arg-type]
    return make_perception(TASK, LearningConfig(vision=vision), seed=0, simulated=True)


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    """An episode of the expert, as the cameras see it."""
    env = serl_sim.make("pick_cube_vision")
    observation, _ = env.reset(seed=1)
    expert = TASK.make_expert(np.random.default_rng(0))
    spec = perception().pictures
    builder = ChunkBuilder(observation, EpisodeStart(EpisodeMode.DEMONSTRATION, 1, 1), ChunkFormat(spec))
    found: list[Chunk] = []
    over = False
    while not over:
        action = expert.act(*env.known())
        observation, reward, terminated, truncated, info = env.step(action)
        step = StepOutcome(info["executed_action"], reward, terminated, truncated, True, 0, info["success"])
        if (chunk := builder.add(step, observation)) is not None:
            found.append(chunk)
        over = terminated or truncated
    env.close()
    return found


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def file(
    request: pytest.FixtureRequest, chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("recorded") / f"{request.param}.serl"
    with DemonstrationFile(path, perception().pictures, request.param) as written:
        for chunk in chunks:
            written.append(chunk)
    yield path


def load(path: Path, seen: Perception, seed: int = 0) -> list[Chunk]:
    return load_demonstrations(path, seen, seed, check=lambda: None)


@pytest.mark.parametrize("settings", [{"seed": 3}, {"seed": 4, "views": 3, "frame_stack": 2}])
def test_features_are_those_that_the_encoder_makes_of_the_recorded_pictures(file: Path, settings: dict) -> None:
    """Whichever it is: the file was made before anybody chose it."""
    seen = perception(**settings)
    assert seen.encoder is not None
    held = list(read_demonstrations(file, seen.pictures))
    loaded = load(file, seen)
    assert [len(chunk) for chunk in loaded] == [len(chunk) for chunk in held]
    for chunk, pictures in zip(loaded, held, strict=True):
        assert (chunk.encoder, chunk.frame_stack) == (seen.spec.encoder, seen.spec.frame_stack)
        np.testing.assert_array_equal(chunk.action, pictures.action)
        np.testing.assert_array_equal(chunk.observation["state"], pictures.observation["state"])
        for camera in CAMERAS:
            expected = np.stack(
                [seen.encoder.encode({camera: picture})[camera][0] for picture in pictures.observation[camera]]
            )
            found = chunk.observation[camera][chunk.history :, 0]
            np.testing.assert_allclose(found, expected, rtol=4e-3, atol=4e-3)
    for before, after in pairwise(loaded):
        for camera in CAMERAS:
            np.testing.assert_array_equal(before.observation[camera][-1], after.observation[camera][after.history])


def test_an_encoder_that_is_trained_gets_the_pictures(file: Path, chunks: list[Chunk]) -> None:
    seen = perception(frozen=False)
    for chunk, recorded in zip(load(file, seen), chunks, strict=True):
        for camera in CAMERAS:
            error = np.abs(chunk.observation[camera].astype(int) - recorded.observation[camera])
            if file.stem == "raw":
                assert not error.any()
            assert error.mean() < 1.0, "as serl_rl.storage.pictures says of JPEG"
            assert error.max() <= 40


def test_the_shifts_of_the_views_are_drawn_from_the_seed(file: Path) -> None:
    seen = perception()
    first, again, other = load(file, seen), load(file, seen), load(file, seen, seed=1)
    for camera in CAMERAS:
        for one, two, three in zip(first, again, other, strict=True):
            np.testing.assert_array_equal(one.observation[camera], two.observation[camera])
            np.testing.assert_array_equal(one.observation[camera][:, 0], three.observation[camera][:, 0])
        assert any((a.observation[camera] != c.observation[camera]).any() for a, c in zip(first, other, strict=True))


def test_reading_does_not_change_what_the_actor_sees_later(file: Path, chunks: list[Chunk]) -> None:
    picture = {camera: chunks[0].observation[camera][0] for camera in CAMERAS}
    features = []
    for reads in (False, True):
        seen = perception()
        assert seen.encoder is not None
        if reads:
            load(file, seen)
        features.append(seen.encoder.encode(picture)["front"])
    np.testing.assert_array_equal(*features)


def test_the_features_of_jpeg_are_close_to_those_of_the_camera_s_pictures(file: Path, chunks: list[Chunk]) -> None:
    seen = perception(weights="auto")
    assert seen.encoder is not None
    for camera in CAMERAS:
        found = np.concatenate([chunk.observation[camera][:, 0] for chunk in load(file, seen)]).astype(np.float64)
        rows = np.concatenate([chunk.observation[camera] for chunk in chunks])
        exact = seen.encoder.encode_rows({camera: rows})[camera][:, 0].astype(np.float64)
        assert np.abs(found - exact).mean() <= 0.05 * np.abs(exact).mean()


def test_a_file_of_another_crop_is_refused(file: Path) -> None:
    other = replace(TASK, cameras={**TASK.cameras, "front": replace(TASK.cameras["front"], crop=(0.0, 0.0, 0.5, 0.5))})
    seen = make_perception(other, LearningConfig(vision=VisionConfig(encoder=EncoderConfig(weights="random"))), seed=0)
    with pytest.raises(DemonstrationError, match=r"\.serl: cameras\.front\.crop"):
        load(file, seen)


def test_more_than_the_memory_holds_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstrations, "machine_memory", lambda: 2**16)
    with pytest.raises(DemonstrationError, match=r"\.serl: expected demonstrations that fit into 65536 bytes"):
        load(file, perception())


def test_loading_can_be_broken_off(file: Path) -> None:
    class Cancelled(Exception):
        pass

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        load_demonstrations(file, perception(), 0, check)
