# SPDX-License-Identifier: Apache-2.0
"""Acts with what an ACT network makes: chunk by chunk, or with all chunks that were made for a moment.

The network itself is given: `serl_rl.backends.make_act_policy` finds one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ACTION, ENV_STATE, STATE
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.file import open_act
from serl_rl.spec import DataError

Array = NDArray[np.float32]
Predict = Callable[[Mapping[str, NDArray[Any]]], Array]
"""From pictures (H, W, 3), uint8, and states (n,), float32, by the features' names, to a normalised chunk (C, A)."""


class ChunkQueue:
    """The first actions of a chunk, one after the other; then it looks again."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._queue: list[Array] = []

    @property
    def planned(self) -> int:
        """Actions that are left of the chunk."""
        return len(self._queue)

    def reset(self) -> None:
        """Forget what is left of the chunk."""
        self._queue = []

    def next(self, make_chunk: Callable[[], Array]) -> Array:
        """The next action (A,); `make_chunk` makes a chunk (C, A) when one is needed."""
        if not self._queue:
            self._queue = list(make_chunk()[: self._steps])
        return self._queue.pop(0)


class TemporalEnsemble:
    """The mean of all actions that were made for a moment, the oldest with weight 1, each next one with exp(-c) less.

    Algorithm 2 of Zhao et al. (arXiv 2304.13705).
    """

    planned = 0

    def __init__(self, coefficient: float, size: int) -> None:
        self._weights = np.exp(-coefficient * np.arange(size))
        self._chunks: list[NDArray[np.float64]] = []

    def reset(self) -> None:
        """Forget all chunks."""
        self._chunks = []

    def next(self, make_chunk: Callable[[], Array]) -> Array:
        """The action (A,) of this moment; a chunk (C, A) is made in each."""
        chunk = np.asarray(make_chunk(), np.float64)
        self._chunks = [*self._chunks[-(len(chunk) - 1) :], chunk] if len(chunk) > 1 else [chunk]
        newest = len(self._chunks) - 1
        made = np.stack([each[newest - index] for index, each in enumerate(self._chunks)])
        weights = self._weights[: len(made)]
        return (weights @ made / weights.sum()).astype(np.float32)


def read_policy(path: Path) -> ActPolicy:
    """The ACT policy in a directory of LeRobot's or a file of ours, without its network: to look at what it takes.

    Raises:
        ForeignError: it is neither, or damaged.
    """

    def predict(inputs: Mapping[str, NDArray[Any]]) -> Array:
        raise NotImplementedError("this policy was opened to be looked at, not to act")

    return ActPolicy(open_act(path), predict)


class ActPolicy:
    """An ACT policy that acts on one observation at a time, in its own units."""

    def __init__(self, checkpoint: ActCheckpoint, predict: Predict) -> None:
        """Put the policy together.

        Args:
            checkpoint: the policy.
            predict: its network.
        """
        config = checkpoint.config
        self._predict, self._back = predict, checkpoint.normalizations[ACTION]
        shapes = {name: config.input_features[name].shape for name in (*config.cameras, STATE)}
        if config.env_state_size is not None:
            shapes[ENV_STATE] = (config.env_state_size,)
        self.inputs: Mapping[str, tuple[int, ...]] = MappingProxyType(
            {name: (*shape[1:], 3) if len(shape) == 3 else shape for name, shape in shapes.items()}
        )
        """Shapes of what it takes, by the names of its features: (H, W, 3) of pictures, uint8; (n,) of vectors."""
        self.outputs = config.action_size
        """Numbers of an action."""
        coefficient = config.temporal_ensemble_coeff
        self._plan: ChunkQueue | TemporalEnsemble = (
            ChunkQueue(config.n_action_steps)
            if coefficient is None
            else TemporalEnsemble(coefficient, config.chunk_size)
        )

    @property
    def planned(self) -> int:
        """Actions that it will execute before it looks again; `reset` makes it look at once."""
        return self._plan.planned

    def reset(self) -> None:
        """Begin an episode, or go on after somebody else has moved the arm: forget what was planned."""
        self._plan.reset()

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> Array:
        """The action (A,) for what is observed.

        Args:
            inputs: shaped as `inputs` of this policy says, in its own units, not normalised.

        Raises:
            DataError: something is missing, or of another shape.
        """
        for name, shape in self.inputs.items():
            if name not in inputs:
                raise DataError(name, f"values of shape {shape}", f"none, only {sorted(inputs)}")
            dtype = np.uint8 if len(shape) == 3 else np.float32
            if inputs[name].shape != shape or inputs[name].dtype != dtype:
                found = f"{inputs[name].dtype.name} {inputs[name].shape}"
                raise DataError(name, f"{np.dtype(dtype).name} {shape}", found)
        return self._back.restore(self._plan.next(lambda: self._predict(inputs)))
