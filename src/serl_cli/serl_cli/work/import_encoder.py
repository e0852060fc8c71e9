# SPDX-License-Identifier: Apache-2.0
"""Encoders of weights that others published."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_launch.errors import CommandError
from serl_rl.encoders.architecture import LITE
from serl_rl.encoders.efficientnet_params import PACKAGE, folded, published_file
from serl_rl.encoders.efficientnet_reference import reference_features
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderDescription, EncoderError, write_encoder
from serl_rl.encoders.probe import probe
from serl_rl.encoders.resnet_params import sha256
from serl_rl.encoders.robot_pictures import read_picture_episodes
from serl_rl.encoders.torch_params import read_torch_arrays

TOLERANCE: Final = 1e-3
"""Largest difference to the network as published, in parts of its largest feature."""


DEFAULT_STAGE: Final = 5
"""Behind which the network is cut where no pictures decide."""
FEWEST: Final = 8
"""Episodes of pictures that are needed to decide."""


def import_efficientnet(stage: int | None, recordings: Sequence[Path], path: Path, say: Callable[[str], None]) -> None:
    """Write the first stages of EfficientNet-Lite0 with ImageNet weights as an encoder.

    Args:
        stage: behind which the network is cut; None: the best one for the recordings, 5 without any.
        recordings: demonstration files with pictures, by which a probe chooses the stage.
        path: of the file to write.
        say: told what was done, a line at a time.

    Raises:
        CommandError: the recordings have too few episodes.
        EncoderError: the package is not installed, its file is not what it should be, or the encoder makes other
            features than the network as published.
        OSError: the file cannot be written.
    """
    from serl_rl.jax.encoders.maps import feature_maps

    source = published_file()
    arrays, digest = read_torch_arrays(source), sha256(source)
    if stage is None:
        stage = _best_stage(source, arrays, recordings, say) if recordings else DEFAULT_STAGE
    kind = f"efficientnet_lite0_{stage}"
    weights = folded(source, arrays, stage)
    encoder = Encoder.from_weights(kind, weights, str(source))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = reference_features(arrays, pictures, stage)
    difference = float(np.abs(feature_maps(encoder, pictures) - expected).max() / np.abs(expected).max())
    if not difference <= TOLERANCE:
        raise EncoderError(source, f"features of the published network, {TOLERANCE:g} off at most", f"{difference:.2g}")
    recipe = {"package": PACKAGE, "file": source.name, "sha256": digest, "stage": stage}
    written = write_encoder(path, weights, EncoderDescription(kind, "efficientnet_lite0", recipe=recipe))
    shape = encoder.feature_shape(128, 128)
    say(f"{source.name}: SHA-256 {digest}")
    say(f"difference to the network as published: {difference:.1g} of the largest feature")
    say(
        f"{path}: {kind}, {path.stat().st_size / 1e6:.1f} MB, hash {written.hash}; "
        f"{' x '.join(map(str, shape))} features of 128 x 128 pixels, {2 * np.prod(shape) / 1e3:.1f} kB"
    )
    say(f"use it: --set vision.encoder.kind={kind} --set vision.encoder.weights={path.absolute()}")


def _best_stage(
    source: Path, arrays: Mapping[str, NDArray[Any]], recordings: Sequence[Path], say: Callable[[str], None]
) -> int:
    """The stage whose features explain most of a robot's state and way in a quarter of the episodes, held out."""
    from serl_rl.jax.encoders.maps import feature_maps

    episodes = [episode for episode in read_picture_episodes(recordings) if len(episode) > 1]
    if len(episodes) < FEWEST:
        names = ", ".join(map(str, recordings))
        raise CommandError(f"{names}: expected at least {FEWEST} episodes, found {len(episodes)}")
    held_out, fitted = episodes[::4], [episode for index, episode in enumerate(episodes) if index % 4]
    explained = {}
    for kind, stage in LITE.items():
        encoder = Encoder.from_weights(kind, folded(source, arrays, stage), kind)
        explained[stage] = float(np.mean([*probe(partial(feature_maps, encoder), fitted, held_out).values()]))
        say(f"stage {stage}: explains {explained[stage]:.3f} of state and way in {len(held_out)} held-out episodes")
    return max(explained, key=lambda each: explained[each])
