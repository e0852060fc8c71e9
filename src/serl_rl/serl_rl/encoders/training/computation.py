# SPDX-License-Identifier: Apache-2.0
"""What a backend does in the training of encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.training.adapting import MakeAdaptingFitting
from serl_rl.encoders.training.labelled import MakeLabelFitting


@dataclass(frozen=True)
class EncoderComputation:
    """Encoders and their training, as a backend computes them."""

    label_fitting: MakeLabelFitting
    """Begins what `serl_rl.encoders.training.labelled.train_encoder` does."""
    adapting_fitting: MakeAdaptingFitting
    """Begins what `serl_rl.encoders.training.adapting.adapt_encoder` does."""
    feature_maps: Callable[[Encoder, NDArray[np.uint8]], NDArray[np.float32]]
    """Feature maps (N, h, w, c) of RGB pictures (N, H, W, 3)."""
