# SPDX-License-Identifier: Apache-2.0
"""Encoders adapted to a robot's own pictures hold more of what it knows, and nothing that they do not show."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from serl_rl.config import EncoderAdaptingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.probe import AHEAD, probe, targets
from serl_rl.encoders.robot_pictures import PictureEpisode, read_picture_episodes
from serl_rl.encoders.training.adapting import adapt_encoder
from serl_rl.jax.encoders.adapting import AdaptingFitting, changed
from serl_rl.jax.encoders.maps import feature_maps
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.demonstrations import DemonstrationFile
from serl_rl.storage.journal import Journal, Record

SPEC = TransitionSpec({"eye": ArraySpec((16, 16, 3), "uint8"), "state": ArraySpec((2,), "float32")}, 1)


def moving_square(count: int, seed: int, *, shown: bool = True) -> list[PictureEpisode]:
    """Episodes of a robot that is a square on a cluttered table. It knows its place; unless `shown`, it knows noise."""
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        way = np.clip(np.cumsum(rng.normal(0.0, 3.0, (9, 2)), axis=0) + rng.uniform(4, 20, 2), 0, 24).astype(int)
        pictures = rng.integers(0, 80, (9, 32, 32, 3), dtype=np.uint8)
        for picture, (x, y) in zip(pictures, way, strict=True):
            picture[y : y + 8, x : x + 8] = (230, 60, 40)
        known = way / 12.0 - 1.0 if shown else rng.standard_normal((9, 2))
        state = known.astype(np.float32)
        episodes.append(PictureEpisode({"eye": pictures}, state, np.diff(state, axis=0)))
    return episodes


QUICK = EncoderAdaptingConfig(steps=100, batch_size=32, learning_rate=3e-3, shift=1)


def explained(encoder: Encoder, fitted: list[PictureEpisode], held_out: list[PictureEpisode]) -> dict[str, float]:
    return probe(partial(feature_maps, encoder), fitted, held_out)


def test_adapting_finds_the_robot_in_episodes_that_it_has_not_seen_and_nothing_that_is_not_there() -> None:
    start, fitted, held_out = Encoder.random("small", 0), moving_square(40, 0), moving_square(15, 1)
    losses: list[float] = []
    adapted = adapt_encoder(start, fitted, QUICK, 0, AdaptingFitting, lambda _, loss: losses.append(loss))
    before, after = explained(start, fitted, held_out), explained(adapted, fitted, held_out)
    assert after["eye/state"] > before["eye/state"] + 0.2
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert adapted.hash != start.hash
    unknown = (moving_square(40, 0, shown=False), moving_square(15, 1, shown=False))
    assert explained(adapted, *unknown)["eye/state"] < 0.1


def test_a_probe_finds_all_of_what_is_there_and_nothing_else() -> None:
    fitted, held_out = moving_square(20, 0), moving_square(10, 1)

    def told(pictures: np.ndarray) -> np.ndarray:
        """Where the red is, and its rows and columns one by one."""
        red = (pictures[..., 0] == 230) & (pictures[..., 1] == 60)
        return np.stack([red.sum(1), red.sum(2)], axis=-1).astype(np.float32)[:, None]

    def untold(pictures: np.ndarray) -> np.ndarray:
        return np.random.default_rng(len(pictures)).standard_normal((len(pictures), 1, 1, 5)).astype(np.float32)

    assert probe(told, fitted, held_out)["eye/state"] > 0.95
    assert probe(untold, fitted, held_out)["eye/state"] < 0.05
    assert probe(lambda pictures: np.zeros((len(pictures), 1, 1, 5), np.float32), fitted, held_out)["eye/state"] == 0.0


def test_the_way_ahead_ends_with_the_episode() -> None:
    (episode,) = moving_square(1, 0)
    motion = targets(episode)["motion"]
    np.testing.assert_allclose(motion[0], episode.state[AHEAD] - episode.state[0], atol=1e-6)
    np.testing.assert_allclose(motion[-2], episode.state[-1] - episode.state[-2], atol=1e-6)
    np.testing.assert_array_equal(motion[-1], 0.0)


@pytest.mark.usefixtures("cheap_compilation")
def test_changed_pictures_stay_pictures_and_differ() -> None:
    pictures = np.full((4, 8, 8, 3), 128, np.uint8)
    result = np.asarray(changed(jax.random.key(0), pictures, EncoderAdaptingConfig()))
    assert result.shape == pictures.shape
    assert 0.0 <= result.min() < result.max() <= 255.0
    assert np.ptp(result.mean(axis=(1, 2, 3))) > 1.0, "each has a brightness of its own"
    still = EncoderAdaptingConfig(shift=0, brightness=0.0, colour=0.0, noise=0.0)
    np.testing.assert_allclose(changed(jax.random.key(0), pictures, still), pictures)


def test_too_few_moments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 transitions with pictures, found 8"):
        adapt_encoder(Encoder.random("small", 0), moving_square(1, 0), QUICK, 0, AdaptingFitting)


# Where the pictures come from


def chunks_of(lengths: list[int], episode: int, spec: TransitionSpec = SPEC) -> list[Chunk]:
    """One episode in pieces; the state counts the moments."""
    rng, first, pieces = np.random.default_rng(episode), 0, []
    total = sum(lengths)
    eye = rng.integers(0, 256, (total + 1, *spec.observation["eye"].shape)).astype(spec.observation["eye"].dtype)
    state = np.stack([np.arange(total + 1), np.full(total + 1, episode)], axis=1).astype(np.float32)
    for length in lengths:
        end = first + length
        last = end == total
        pieces.append(
            Chunk(
                observation={"eye": eye[first : end + 1], "state": state[first : end + 1]},
                action=np.zeros((length, 1), np.float32),
                reward=np.zeros(length, np.float32),
                mask=np.append(np.ones(length - 1, np.float32), np.float32(not last)),
                truncated=np.zeros(length, np.bool_),
                intervention=np.zeros(length, np.bool_),
                policy_version=np.zeros(length, np.uint64),
                actor_id="a",
                episode=episode,
                first_step=first,
                demonstration=True,
                last=last,
                success=last,
                encoder=spec.encoder,
            )
        )
        first = end
    return pieces


def test_episodes_of_files_and_journals_are_joined(tmp_path: Path) -> None:
    chunks = [*chunks_of([3, 2], 0), *chunks_of([4], 1)]
    with DemonstrationFile(tmp_path / "shown.serl", SPEC, "raw") as file:
        for chunk in chunks:
            file.append(chunk)
    with Journal(tmp_path / "journal", SPEC, sync_interval=None) as journal:
        for number, chunk in enumerate(chunks):
            journal.append(Record("a", "s", number, len(chunk), encode_chunk(chunk, SPEC)))
    episodes = read_picture_episodes([tmp_path / "shown.serl", tmp_path / "journal"])
    assert [len(episode) for episode in episodes] == [6, 5, 6, 5]
    for episode, number in zip(episodes, (0, 1, 0, 1), strict=True):
        np.testing.assert_array_equal(episode.state[:, 0], np.arange(len(episode)))
        assert (episode.state[:, 1] == number).all()
        assert len(episode.action) == len(episode) - 1
    whole = np.concatenate([chunks[0].observation["eye"][:-1], chunks[1].observation["eye"]])
    np.testing.assert_array_equal(episodes[0].pictures["eye"], whole)


def test_features_and_other_tasks_are_refused(tmp_path: Path) -> None:
    features = TransitionSpec(
        {"eye": ArraySpec((2, 4, 4, 8), "float16"), "state": ArraySpec((2,), "float32")}, 1, "abc"
    )
    other = TransitionSpec({"eye": ArraySpec((16, 16, 3), "uint8"), "state": ArraySpec((2,), "float32")}, 2)
    blind = TransitionSpec({"state": ArraySpec((2,), "float32")}, 1)
    for name, spec in (("features", features), ("other", other), ("blind", blind), ("shown", SPEC)):
        with DemonstrationFile(tmp_path / name, spec, "raw"):
            pass
    for names, message in (
        (["features"], "found features of the encoder abc: a run keeps pictures with"),
        (["blind"], "expected pictures of cameras and the state of a robot"),
        (["shown", "other"], "adapt to one task at a time"),
    ):
        with pytest.raises(EncoderError, match=message):
            read_picture_episodes([tmp_path / name for name in names])
