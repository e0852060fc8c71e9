# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.backends import load_classifier
from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.reward.classifier import RewardClassifier
from serl_rl.jax.reward.training import COMPUTATION
from serl_rl.reward.calibration import first_success, softmax
from serl_rl.reward.classifier_file import ClassifierError, read_classifier
from serl_rl.reward.data import EpisodeBuilder, FrameSource, RewardEpisode, View
from serl_rl.reward.judging import Predictions, predict, report
from serl_rl.reward.training import train_classifier
from serl_rl.spec import DataError
from serl_rl.storage.tensors import pack, unpack

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SOURCE = FrameSource("pick", {"front": View(64, 64), "wrist": View(64, 64)})
CONFIG = RewardClassifierConfig(weights="random", views=2, steps=100, batch_size=32, consecutive=2)


def nowhere(path: str) -> Path:
    raise FileNotFoundError(path)


def frame(rng: np.random.Generator, stage: int) -> dict[str, NDArray[np.uint8]]:
    """Noise in both pictures; the front one has a square that is higher with each stage."""
    pictures = {name: rng.integers(60, 120, view.shape).astype(np.uint8) for name, view in SOURCE.views.items()}
    row, column = 44 - 20 * stage, int(rng.integers(4, 44))
    pictures["front"][row : row + 16, column : column + 16] = (220, 40, 40)
    return pictures


def episode(seed: int, labels: list[int], source: FrameSource = SOURCE) -> RewardEpisode:
    rng = np.random.default_rng(seed)
    builder = EpisodeBuilder(source, "truth")
    for label in labels:
        builder.add(frame(rng, label), label)
    return builder.build()


@pytest.fixture(scope="module")
def trained(cheap_compilation: None) -> RewardClassifier:
    episodes = [episode(seed, [0] * 8 + [1] * 8) for seed in range(6)]
    classifier, report = train_classifier(
        episodes[:4], episodes[4:], CONFIG, Encoder.random("small", 0), computation=COMPUTATION
    )
    assert report.area > 0.95
    assert report.false_successes.count == 0
    assert report.found_successes.count == report.found_successes.total == 2
    assert classifier.info.metrics["area_under_roc"] == report.area
    assert classifier.info.trained_on == tuple(each.id for each in episodes[:4])
    return classifier


def test_a_classifier_judges_pictures_that_it_has_never_seen(trained):
    rng = np.random.default_rng(100)
    rows = np.array([trained.probabilities(frame(rng, stage)) for stage in [0] * 6 + [1] * 6])
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    found = first_success(rows, trained.info.thresholds, trained.info.consecutive)
    assert found is not None and found >= 7


@pytest.mark.parametrize(("found_at", "too_early"), [(1, 1), (2, 0), (3, 0)])
def test_only_a_success_before_its_time_is_a_false_one(found_at, too_early):
    info = RewardClassifier.untrained(SOURCE, replace(CONFIG, consecutive=1), Encoder.random("small", 0)).info
    logits = np.where(np.arange(4) >= found_at, 9.0, -9.0).astype(np.float32)
    rows = np.stack([np.zeros_like(logits), logits], axis=1)
    found = report(replace(info, thresholds=(0.5,)), Predictions([episode(0, [0, 0, 1, 1])], [rows]))
    assert (found.false_successes.count, found.false_successes.total) == (too_early, 1)
    assert found.found_successes.count == 1


def test_one_picture_and_many_get_the_same_answer(trained):
    unseen = episode(7, [0, 1, 1])
    together = softmax(predict(trained, [unseen]).logits[0], trained.info.temperature)
    alone = [
        trained.probabilities({name: unseen.decode(name)[index] for name in SOURCE.views})
        for index in range(len(unseen))
    ]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_pictures_that_are_missing_or_of_another_size_are_refused(trained):
    pictures = frame(np.random.default_rng(0), 0)
    with pytest.raises(DataError, match=r"pictures of wrist: expected .* found nothing"):
        trained.probabilities({"front": pictures["front"]})
    with pytest.raises(DataError, match="pictures of front"):
        trained.probabilities({**pictures, "front": pictures["front"][:32]})


def test_a_classifier_comes_back_from_its_file(trained, tmp_path):
    path = tmp_path / "a.safetensors"
    trained.save(path)
    trained.save(path)
    found = load_classifier(path, nowhere)
    assert found.info == trained.info
    pictures = frame(np.random.default_rng(1), 1)
    np.testing.assert_array_equal(found.probabilities(pictures), trained.probabilities(pictures))
    assert list(tmp_path.iterdir()) == [path]


def test_a_trained_encoder_is_part_of_the_file_and_stages_may_be_more_than_two(tmp_path):
    source = FrameSource("pick", SOURCE.views, ("apart", "held", "done"))
    config = replace(CONFIG, frozen=False, steps=2, batch_size=6, false_positive_rate=0.4)
    episodes = [episode(seed, [0, 1, 2] * 20, source) for seed in range(2)]
    before = Encoder.random("small", 0)
    classifier, _ = train_classifier(episodes[:1], episodes[1:], config, before, computation=COMPUTATION)
    assert classifier.encoder.hash != before.hash
    assert len(classifier.info.thresholds) == 2
    assert classifier.probabilities(frame(np.random.default_rng(0), 0)).shape == (3,)
    classifier.save(tmp_path / "a.safetensors")
    found = load_classifier(tmp_path / "a.safetensors", nowhere)
    assert found.info == classifier.info
    assert found.encoder.hash == classifier.encoder.hash == found.info.encoder_hash


def test_another_encoder_than_the_one_it_was_trained_with_is_refused(trained, tmp_path):
    path = tmp_path / "a.safetensors"
    other = replace(trained.info, encoder_hash="0123456789abcdef")
    RewardClassifier(other, trained.encoder, trained.head).save(path)
    with pytest.raises(ClassifierError, match="expected the encoder 0123456789abcdef"):
        load_classifier(path, nowhere)


def changed(path: Path, arrays: dict[str, NDArray] | None = None, **info: object) -> Path:
    """The file with other arrays or other words about itself."""
    old, metadata = unpack(path.read_bytes())
    about = json.loads(metadata["classifier"]) | info
    path.write_bytes(pack(old if arrays is None else arrays, {"classifier": json.dumps(about)}))
    return path


def test_a_damaged_file_is_refused(trained, tmp_path):
    path = tmp_path / "a.safetensors"

    def fresh() -> Path:
        trained.save(path)
        return path

    with pytest.raises(ClassifierError, match=r"cannot be read.*serl reward train"):
        load_classifier(tmp_path / "missing", nowhere)
    whole = fresh().read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClassifierError, match="damaged, or no reward classifier"):
        load_classifier(path, nowhere)
    path.write_bytes(pack({"x": np.zeros(3, np.float32)}, {}))
    with pytest.raises(ClassifierError, match="metadata"):
        load_classifier(path, nowhere)
    arrays, _ = unpack(whole)
    first = min(arrays)
    with pytest.raises(ClassifierError, match=r"expected .* arrays"):
        load_classifier(changed(fresh(), {name: value for name, value in arrays.items() if name != first}), nowhere)
    with pytest.raises(ClassifierError, match="expected finite numbers"):
        load_classifier(changed(fresh(), {**arrays, first: arrays[first][..., :1]}), nowhere)
    with pytest.raises(ClassifierError, match="expected finite numbers"):
        load_classifier(changed(fresh(), {**arrays, first: np.full_like(arrays[first], np.nan)}), nowhere)
    with pytest.raises(ClassifierError, match="arrays of head and encoder"):
        load_classifier(changed(fresh(), {**arrays, "other/x": arrays[first]}), nowhere)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"thresholds": [1.5]},
        {"thresholds": []},
        {"consecutive": 0},
        {"format": 99},
        {"surprise": 1},
        {"source": "{}"},
    ],
    ids=str,
)
def test_a_file_that_says_nonsense_of_itself_is_refused(trained, tmp_path, change):
    path = tmp_path / "a.safetensors"
    trained.save(path)
    with pytest.raises(ClassifierError, match="damaged, or no reward classifier"):
        read_classifier(changed(path, **change))
