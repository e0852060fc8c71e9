# SPDX-License-Identifier: Apache-2.0
"""An encoder adapted to the pictures that a robot recorded, and what that gained."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from serl_config.resources import find
from serl_launch.errors import CommandError
from serl_rl.backends import encoder_computation
from serl_rl.config import Backend, EncoderAdaptingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderDescription, read_encoder, write_encoder
from serl_rl.encoders.loading import ANY_WORLD, FOLDER, load_file
from serl_rl.encoders.probe import AHEAD, probe
from serl_rl.encoders.robot_pictures import PictureEpisode, read_picture_episodes
from serl_rl.encoders.training.adapting import adapt_encoder
from serl_rl.storage.pictures import encode_jpeg

from serl_cli.report.page import STYLE, table
from serl_launch import runs

FEWEST: Final = 8
"""Episodes that are needed to learn from some and judge with others."""
SHOWN: Final = 12
"""Pictures of each camera on the page."""
_PLOT: Final = (480, 160)  # [pixels]


def adapt(
    sources: Sequence[str],
    start: str,
    path: Path,
    config: EncoderAdaptingConfig,
    seed: int,
    backend: Backend,
    say: Callable[[str], None],
) -> None:
    """Train an encoder on pictures of runs and demonstrations, judge it with held-out episodes, write file and page.

    Args:
        sources: runs, or demonstration files that end in .serl.
        start: encoder that is adapted: `random`, a name in config/encoders, or a path that ends in .safetensors.
        path: of the file to write; the page stands beside it.
        config: how.
        seed: of everything random.
        backend: that computes.
        say: told what goes on, a line at a time.

    Raises:
        BackendError: the backend is not installed.
        CommandError: a source is not there, or there are too few episodes.
        EncoderError: a source has no pictures, or there is no such encoder.
        DataError, SegmentError: a source cannot be read.
        OSError: a file cannot be written.
    """
    begun = time.monotonic()
    encoder = _start(start, seed)
    episodes = [each for each in read_picture_episodes([_place(source) for source in sources]) if len(each) > 1]
    if len(episodes) < FEWEST:
        raise CommandError(f"{', '.join(sources)}: expected at least {FEWEST} episodes, found {len(episodes)}")
    order = np.random.default_rng(seed).permutation(len(episodes))
    count = max(round(config.held_out * len(episodes)), 1)
    held_out, fitted = ([episodes[index] for index in part] for part in (order[:count], order[count:]))
    moments = sum(map(len, fitted))
    cameras = ", ".join(fitted[0].pictures)
    say(f"{len(fitted)} episodes ({moments} moments, cameras {cameras}) to learn from, {count} held out to judge with")
    # A backend takes seconds to import: after everything that can be wrong before.
    computation = encoder_computation(backend)
    losses: list[float] = []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % max(config.steps // 8, 1) == 0:
            say(f"step {step}/{config.steps}: loss {np.mean(losses[-50:]):.3f}")

    adapted = adapt_encoder(encoder, fitted, config, seed, computation.adapting_fitting, report)
    found = {
        name: probe(partial(computation.feature_maps, each), fitted, held_out, seed)
        for name, each in {"random": Encoder.random(encoder.kind, seed), "start": encoder, "adapted": adapted}.items()
    }
    metrics = {f"{name}/{key}": round(value, 4) for name, values in found.items() for key, value in values.items()}
    description = EncoderDescription(
        kind=encoder.kind,
        name=path.stem,
        cameras=tuple(fitted[0].pictures),
        worlds=(ANY_WORLD,),
        seed=seed,
        recipe={"start": start, "start_hash": encoder.hash, "sources": [*sources], **asdict(config)},
        metrics=metrics,
    )
    written = write_encoder(path, adapted.weights, description)
    page = path.with_suffix(".html")
    runs.write_atomically(page, _page(written, found, held_out, losses))
    for row in _rows(found):
        say("{:24}{:>10}{:>10}{:>10}".format(*row))
    gain = _mean(found["adapted"]) - _mean(found["start"])
    say(f"mean explained in held-out episodes: {_mean(found['adapted']):.3f}, {gain:+.3f} against the start")
    say(f"{path}: {encoder.kind}, hash {written.hash}, {time.monotonic() - begun:.0f} s; page: {page}")
    say(f"use it: --set vision.encoder.kind={encoder.kind} --set vision.encoder.weights={path.absolute()}")


def _place(source: str) -> Path:
    if source.endswith(".serl"):
        if not Path(source).is_file():
            raise CommandError(f"{source}: there is no such file; ./serl record makes one")
        return Path(source)
    return runs.find_run(runs.runs_root(), source).journal


def _start(start: str, seed: int) -> Encoder:
    if start == "random":
        return Encoder.random("small", seed)
    if start.endswith(".safetensors"):
        _, description = read_encoder(Path(start))
        return load_file(Path(start), "small" if description is None else description.kind)
    try:
        path = find(f"{FOLDER}/{start}.safetensors")
    except FileNotFoundError:
        expected = f"random, a name in {FOLDER} or a path that ends in .safetensors"
        raise CommandError(f"--start {start}: expected {expected}") from None
    return load_file(path, start)


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean([*values.values()]))


def _rows(found: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """Explained share by target; a column for each encoder."""
    rows = [("explained (R^2)", *found)]
    return rows + [(key, *(f"{values[key]:.3f}" for values in found.values())) for key in found["adapted"]]


def _page(
    info: EncoderDescription,
    found: Mapping[str, Mapping[str, float]],
    held_out: Sequence[PictureEpisode],
    losses: Sequence[float],
) -> str:
    """The page, as HTML that needs no other file."""
    head, *rows = _rows(found)
    mean = ("mean", *(f"{_mean(values):.3f}" for values in found.values()))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(info.name)}</title><style>{STYLE}</style></head><body>
<h1>{escape(info.name)}</h1>
<p>Encoder {escape(info.kind)} {escape(info.hash)}, adapted from {escape(str(info.recipe["start"]))} to
{escape(", ".join(info.recipe["sources"]))}; seed {info.seed}.</p>
<h2>What a linear map finds in its features</h2>
{table(head, [*rows, mean], len(rows))}
<p class="note">Share of the variance explained in {len(held_out)} episodes that neither the encoder nor the map was
fitted to: of the robot's state in the picture, and of the way that it goes in the next {AHEAD} steps. 1: all; 0: no
more than the mean says; below: less. What is not the robot's own, like the place of an object, shows only in the
second.</p>
<h2>Loss</h2>{_curve(losses)}
<h2>Pictures of held-out episodes</h2>{_pictures(held_out)}
</body></html>
"""


def _curve(losses: Sequence[float]) -> str:
    width, height = _PLOT
    blocks = [float(np.mean(part)) for part in np.array_split(losses, min(len(losses), 100))]
    low, high = min(blocks), max(blocks)
    points = " ".join(
        f"{width * index / max(len(blocks) - 1, 1):.1f},{height * (high - value) / max(high - low, 1e-9):.1f}"
        for index, value in enumerate(blocks)
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="loss over {len(losses)} steps">'
        f'<rect width="{width}" height="{height}" fill="#f4f6f9"/>'
        f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="2"/></svg>'
        f"<p class='note'>From {blocks[0]:.3f} to {blocks[-1]:.3f} in {len(losses)} steps.</p>"
    )


def _pictures(episodes: Sequence[PictureEpisode]) -> str:
    figures = []
    for camera in episodes[0].pictures:
        rows = np.concatenate([episode.pictures[camera] for episode in episodes])
        for index in np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int):
            data = base64.b64encode(encode_jpeg(rows[index])).decode()
            figures.append(f'<img alt="{escape(camera)}" width="128" src="data:image/jpeg;base64,{data}">')
    return " ".join(figures)
