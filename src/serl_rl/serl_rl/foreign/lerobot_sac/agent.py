# SPDX-License-Identifier: Apache-2.0
"""Says why none of our agents goes on learning with the weights of LeRobot's `SACPolicy`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.lerobot_sac.policy import open_policy


def read_initial(path: Path) -> NoReturn:
    """Refuse a directory: its critics encode the state before the action joins, and all hidden layers have SiLU.

    Raises:
        ForeignError: always: the directory is damaged, or it is of an architecture that the agent sac does not have.
    """
    open_policy(path)
    raise ForeignError(
        path,
        "hidden layers of relu or tanh, and critics without an encoder, which the agent sac can go on learning from "
        "(this policy acts, and is improved, by --from-policy)",
        "layers of SiLU behind an encoder, as all of LeRobot's SACPolicy",
    )
