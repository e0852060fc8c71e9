# SPDX-License-Identifier: Apache-2.0
"""Training of reward classifiers: balanced batches, augmented pictures, calibration on episodes that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder, named_weights
from serl_rl.jax.encoders.shift import random_shift
from serl_rl.jax.reward.classifier import RewardClassifier, make_head
from serl_rl.reward.calibration import (
    Rate,
    area_under_roc,
    balanced_loss,
    choose_threshold,
    first_success,
    fit_temperature,
    rates,
    softmax,
)
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.data import RewardEpisode, check_split

Pictures = Mapping[str, jax.Array]

_CHUNK = 64  # pictures encoded at once


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of some episodes."""

    episodes: Sequence[RewardEpisode]
    logits: Sequence[NDArray[np.float32]]
    """(T, S) of each, before the temperature."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(N,) of all frames."""
        return np.concatenate([episode.labels for episode in self.episodes])

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """(N, S) of all frames."""
        return softmax(np.concatenate(self.logits), temperature)


@dataclass(frozen=True)
class Report:
    """How good a classifier is on some episodes, at its own temperature and thresholds."""

    false_positives: Rate
    """Frames that are not of the last stage."""
    true_positives: Rate
    """Frames of the last stage."""
    false_successes: Rate
    """Episodes that count as succeeded before they are: what a policy would learn from."""
    found_successes: Rate
    """Episodes with success that are found to succeed, before that or then."""
    area: float
    """Area under the ROC curve."""
    loss: float
    """`balanced_loss` [nat]."""

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers for the classifier's file."""
        found = {"area_under_roc": self.area, "loss": self.loss}
        for name in ("false_positives", "true_positives", "false_successes", "found_successes"):
            rate: Rate = getattr(self, name)
            low, high = rate.interval
            found |= {name: rate.value, f"{name}_of": float(rate.total), f"{name}_low": low, f"{name}_high": high}
        return found


def predict(classifier: RewardClassifier, episodes: Sequence[RewardEpisode]) -> Predictions:
    """Let a classifier look at episodes.

    Raises:
        DataError: pictures that cannot be read or have another shape.
    """
    found = []
    for episode in episodes:
        pictures = {name: episode.decode(name) for name in classifier.info.cameras}
        found.append(np.concatenate([classifier.logits(chunk)[:count] for count, chunk in _chunks(pictures)]))
    return Predictions(episodes, found)


def report(info: ClassifierInfo, predictions: Predictions) -> Report:
    """How good a classifier with these thresholds is."""
    last = len(info.source.stages) - 1
    probabilities, labels = predictions.probabilities(info.temperature), predictions.labels
    false, true = rates(probabilities[:, last], labels == last, info.thresholds[-1])
    too_early = found = successes = 0
    for episode, logits in zip(predictions.episodes, predictions.logits, strict=True):
        frame = first_success(softmax(logits, info.temperature), info.thresholds, info.consecutive)
        successes += episode.succeeds
        too_early += frame is not None and not (episode.labels[: frame + 1] == last).any()
        found += frame is not None and episode.succeeds
    return Report(
        false_positives=false,
        true_positives=true,
        false_successes=Rate(too_early, len(predictions.episodes)),
        found_successes=Rate(found, successes),
        area=area_under_roc(probabilities[:, last], labels == last),
        loss=balanced_loss(np.concatenate(predictions.logits), labels, info.temperature),
    )


def train_classifier(
    train: Sequence[RewardEpisode],
    held_out: Sequence[RewardEpisode],
    config: RewardClassifierConfig,
    encoder: Encoder,
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> tuple[RewardClassifier, Report]:
    """Train a classifier, then calibrate it and choose its thresholds on the episodes that were held out.

    Args:
        train: episodes to learn from.
        held_out: episodes to judge by; none of them is in `train`.
        config: how.
        encoder: with its initial weights, or its weights for good where `config.frozen`.
        seed: of everything random.
        progress: takes what is being done, how much of it is done, and of how much.

    Returns:
        The classifier, and how good it is on `held_out`. The thresholds were chosen there as well, so that rates of
        new episodes may be somewhat worse.

    Raises:
        DataError: the data cannot make or judge a classifier (`check_split`).
    """
    check_split(train, held_out)
    start = RewardClassifier.untrained(train[0].source, config, encoder, seed)
    info = replace(start.info, trained_on=tuple(episode.id for episode in train))
    augment = partial(_augment, config)
    labels = np.concatenate([episode.labels for episode in train])
    key = jax.random.key(seed)
    if config.frozen:
        inputs = _encode_views(train, info, config, encoder, key, progress)
        trained, head = _fit(start, config, inputs, labels, None, seed, progress)
    else:
        pictures = {name: np.concatenate([episode.decode(name) for episode in train]) for name in info.cameras}
        inputs = {name: values[:, None] for name, values in pictures.items()}
        trained, head = _fit(start, config, inputs, labels, augment, seed, progress)
        info = replace(info, encoder_hash=trained.hash)
    classifier = RewardClassifier(info, trained, head)
    predictions = predict(classifier, held_out)
    info = calibrated(info, predictions, config.false_positive_rate)
    found = report(info, predictions)
    return RewardClassifier(replace(info, metrics=found.metrics), trained, head), found


def calibrated(info: ClassifierInfo, predictions: Predictions, false_positive_rate: float) -> ClassifierInfo:
    """What is known of a classifier, with temperature and thresholds from what it says of held-out episodes."""
    labels = predictions.labels
    temperature = fit_temperature(np.concatenate(predictions.logits), labels)
    probabilities = predictions.probabilities(temperature)
    thresholds = tuple(
        choose_threshold(probabilities[:, stage], labels == stage, false_positive_rate)
        for stage in range(1, len(info.source.stages))
    )
    return replace(info, temperature=temperature, thresholds=thresholds)


def _fit(
    start: RewardClassifier,
    config: RewardClassifierConfig,
    inputs: Mapping[str, NDArray[Any]],
    labels: NDArray[np.uint8],
    augment: Callable[[jax.Array, Pictures], Pictures] | None,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> tuple[Encoder, Any]:
    """Trained encoder and head, of pictures (N, 1, H, W, 3) with `augment`, of features (N, K, h, w, c) without."""
    info, encoder = start.info, start.encoder
    layers, encode = make_head(info, config.dropout), _network(encoder.kind)
    params = {"head": start.head}
    if augment is not None:
        params["encoder"] = encoder_params(encoder)
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)

    def loss(params: Any, key: jax.Array, batch: Pictures, targets: jax.Array) -> jax.Array:
        if augment is not None:
            batch = {name: encode(params["encoder"], x) for name, x in augment(key, batch).items()}
        logits = layers.apply(params["head"], batch, training=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, key: jax.Array, batch: Pictures, targets: jax.Array) -> tuple[Any, Any]:
        gradient = jax.grad(loss)(params, key, batch, targets)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.array, params)
    state = optimizer.init(params)
    rng = np.random.default_rng(seed)
    by_stage = [np.flatnonzero(labels == stage) for stage in range(len(info.source.stages))]
    views = next(iter(inputs.values())).shape[1]
    targets = np.sort(np.arange(config.batch_size) % len(by_stage))
    sizes = np.bincount(targets)
    for number in range(config.steps):
        rows = np.concatenate([rng.choice(group, size) for group, size in zip(by_stage, sizes, strict=True)])
        batch = {name: values[rows, rng.integers(views, size=len(rows))] for name, values in inputs.items()}
        params, state = step(params, state, jax.random.key(rng.integers(2**31)), batch, targets)
        if number % 100 == 0:
            progress("training", number, config.steps)
    params = jax.device_get(params)
    if augment is not None:
        encoder = Encoder.from_weights(encoder.kind, named_weights(params["encoder"]), "of the classifier")
    return encoder, params["head"]


def _network(kind: str) -> Callable[[Any, jax.Array], jax.Array]:
    """Feature maps of an encoder's parameters and pictures."""
    module = make_encoder(kind)
    return lambda params, pictures: jnp.asarray(module.apply(params, pictures))


def _encode_views(
    episodes: Sequence[RewardEpisode],
    info: ClassifierInfo,
    config: RewardClassifierConfig,
    encoder: Encoder,
    key: jax.Array,
    progress: Callable[[str, int, int], None],
) -> dict[str, NDArray[np.float16]]:
    """Features float16 (N, K, h, w, c) of every frame: of the picture as it is, and of K - 1 augmented ones."""
    network = _network(encoder.kind)

    @jax.jit
    def encode(params: Any, key: jax.Array, pictures: Pictures) -> Pictures:
        views = [pictures, *(_augment(config, k, pictures) for k in jax.random.split(key, config.views)[1:])]
        return {
            name: jnp.stack([network(params, view[name]) for view in views], axis=1).astype(jnp.float16)
            for name in info.cameras
        }

    found: dict[str, list[NDArray[np.float16]]] = {name: [] for name in info.cameras}
    params = jax.device_put(encoder_params(encoder))
    for number, episode in enumerate(episodes):
        pictures = {name: episode.decode(name) for name in info.cameras}
        for count, chunk in _chunks(pictures):
            key, used = jax.random.split(key)
            for name, values in encode(params, used, chunk).items():
                found[name].append(np.asarray(values[:count]))
        progress("encoding", number + 1, len(episodes))
    return {name: np.concatenate(values) for name, values in found.items()}


def _chunks(pictures: Mapping[str, NDArray[np.uint8]]) -> Iterator[tuple[int, dict[str, NDArray[np.uint8]]]]:
    """Parts of one and the same length, so that nothing is compiled twice, and how many frames of each count."""
    total = len(next(iter(pictures.values())))
    for start in range(0, total, _CHUNK):
        count = min(_CHUNK, total - start)
        rows = np.minimum(np.arange(start, start + _CHUNK), total - 1)
        yield count, {name: values[rows] for name, values in pictures.items()}


def _augment(config: RewardClassifierConfig, key: jax.Array, pictures: Pictures) -> dict[str, jax.Array]:
    """Pictures (B, H, W, 3) shifted at random, of other brightness and contrast, and with noise; each on its own."""
    changed = {}
    for name, camera_key in zip(sorted(pictures), jax.random.split(key, len(pictures)), strict=True):
        keys = jax.random.split(camera_key, 4)
        x = random_shift(keys[0], pictures[name].astype(jnp.float32), config.shift)
        shape = (len(x), 1, 1, 1)
        contrast = 1.0 + jax.random.uniform(keys[1], shape, minval=-config.contrast, maxval=config.contrast)
        brightness = 255.0 * jax.random.uniform(keys[2], shape, minval=-config.brightness, maxval=config.brightness)
        x = (x - 127.5) * contrast + 127.5 + brightness
        # One field of noise for the whole batch: numbers for each picture would take longer than the encoder.
        x = x + 255.0 * config.noise * jax.random.normal(keys[3], x.shape[1:])
        changed[name] = jnp.clip(x, 0.0, 255.0)
    return changed
