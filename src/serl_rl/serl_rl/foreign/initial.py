# SPDX-License-Identifier: Apache-2.0
"""What an agent of ours begins with that goes on learning where another stack's left off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class InitialWeights:
    """Weights of actor and critics, and the settings that they need.

    source: the file that was read
    agent: which of ours begins with them, as `LearningConfig.agent`
    network: settings of the agent, below its name, that the weights need
    defaults: settings below its name that suit them, unless a person says others
    history: moments of the state that an observation holds, as `ActingConfig.history`
    state: values of the state at one moment
    actions: components of an action
    arrays: float32, by their names in `Agent.arrays`
    """

    source: Path
    agent: str
    network: Mapping[str, Any]
    defaults: Mapping[str, Any]
    history: int
    state: int
    actions: int
    arrays: Mapping[str, NDArray[np.float32]]
