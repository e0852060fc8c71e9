# SPDX-License-Identifier: Apache-2.0
"""Makes of a reward classifier of LeRobot's HIL-SERL the file of one of ours, which nodes and commands use as any.

Both are a ResNet-10, spatial embeddings and a layer for each camera, and a layer for all; LeRobot's says the odds of
success, ours has a logit for failure, which is 0, and one for success.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.lerobot_sac.classifier import RewardClassifier
from serl_rl.foreign.resnet10 import KIND
from serl_rl.reward.classifier import head_shapes, write_classifier
from serl_rl.reward.classifier_file import ClassifierInfo, check_arrays
from serl_rl.reward.data import FrameSource

SUCCESS: Final = 2
"""Classes of a classifier that tells success from failure."""

Arrays = dict[str, NDArray[np.float32]]


def import_classifier(
    source: Path,
    out: Path,
    frames: FrameSource,
    cameras: Mapping[str, str],
    *,
    threshold: float = 0.5,
    consecutive: int = 1,
) -> ClassifierInfo:
    """Write the file of a classifier of ours that judges as LeRobot's does.

    Args:
        source: directory of LeRobot's classifier.
        out: file to write; what is there is replaced.
        frames: task, cameras and stages that it is for.
        cameras: from LeRobot's names of pictures to the task's cameras; one that is not named is the camera whose
            name is the last part of its own.
        threshold: probability from which a frame counts as success.
        consecutive: frames in a row that make one.

    Raises:
        ForeignError: it cannot be read, has other stages than failure and success, other cameras or sizes of pictures
            than the task, or layers of different widths.
        OSError: it cannot be written.
    """
    found = RewardClassifier(source)
    if found.classes != SUCCESS or len(frames.stages) != SUCCESS:
        raise ForeignError(source, "a classifier of failure and success", f"{found.classes} classes")
    if unknown := sorted(set(cameras) - set(found.inputs)):
        raise ForeignError(source, f"pictures among {', '.join(found.inputs)}", ", ".join(unknown))
    names = {name: cameras.get(name, name.rpartition(".")[2]) for name in found.inputs}
    if sorted(names.values()) != sorted(frames.views):
        expected = f"pictures of the cameras of {frames.task}, each once: {', '.join(sorted(frames.views))}"
        raise ForeignError(source, expected, ", ".join(names.values()))
    for name, shape in found.inputs.items():
        if (wanted := frames.views[names[name]].shape) != shape:
            raise ForeignError(source, f"{name} of {wanted}, as camera {names[name]} of {frames.task}", str(shape))
    arrays, embeddings, width = _head(source, found, names)
    encoder = Encoder.from_weights(KIND, found.backbone, str(source))
    info = ClassifierInfo(
        source=frames,
        encoder=KIND,
        weights="",
        encoder_hash=encoder.hash,
        embeddings=embeddings,
        width=width,
        temperature=1.0,
        thresholds=(threshold,),
        consecutive=consecutive,
    )
    check_arrays(source, arrays, head_shapes(info))
    write_classifier(out, info, encoder, arrays)
    return info


def _head(source: Path, found: RewardClassifier, names: Mapping[str, str]) -> tuple[Arrays, int, int]:
    """The parameters behind the encoder, and the numbers of spatial embeddings and of features."""
    hidden, norm, last = found.layers
    arrays: Arrays = {}
    rows, sizes = {}, {len(hidden.bias)}
    weightings = set()
    for name, kernel, linear, own_norm, its_rows in found.cameras:
        prefix = f"camera_{names[name]}"
        arrays[f"{prefix}/pooling/kernel"] = kernel
        arrays |= {f"{prefix}/dense/kernel": linear.kernel, f"{prefix}/dense/bias": linear.bias}
        arrays |= {f"{prefix}/norm/scale": own_norm.scale, f"{prefix}/norm/bias": own_norm.bias}
        rows[names[name]] = its_rows
        sizes.add(len(linear.bias))
        weightings.add(kernel.shape[3])
    if len(sizes) != 1 or len(weightings) != 1:
        expected = "one width of all layers (latent_dim and hidden_dim), and as many embeddings of each camera"
        raise ForeignError(source, expected, f"widths {sorted(sizes)}, embeddings {sorted(weightings)}")
    arrays["dense/kernel"] = np.concatenate([rows[camera] for camera in sorted(rows)])
    arrays |= {"dense/bias": hidden.bias, "norm/scale": norm.scale, "norm/bias": norm.bias}
    # Two logits whose softmax is LeRobot's logistic function of one.
    arrays["logits/kernel"] = np.concatenate([np.zeros_like(last.kernel), last.kernel], axis=1)
    arrays["logits/bias"] = np.concatenate([np.zeros_like(last.bias), last.bias])
    return {f"params/{name}": values for name, values in arrays.items()}, weightings.pop(), sizes.pop()
