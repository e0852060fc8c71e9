# SPDX-License-Identifier: Apache-2.0
"""Policies between LeRobot's directories and this workspace's files; both are read and written without PyTorch."""

from __future__ import annotations

from pathlib import Path

from serl_rl.backends import open_act_policy
from serl_rl.foreign.act.acting import ActPolicy
from serl_rl.foreign.act.file import open_act, write_act_file
from serl_rl.foreign.act.writing import write_act


class PolicyConverter:
    """Converts ACT policies. Each method raises ForeignError where a file is damaged or of another kind."""

    def load(self, path: str | Path) -> ActPolicy:
        """The policy in a directory of LeRobot or a file of ours, run by JAX."""
        return open_act_policy(Path(path))

    def pytorch_to_jax(self, directory: str | Path, file: str | Path) -> None:
        """Make a file `.safetensors` of ours of a directory of LeRobot; an older file is replaced."""
        write_act_file(Path(file), open_act(Path(directory)))

    def jax_to_pytorch(self, file: str | Path, directory: str | Path) -> None:
        """Make a directory that LeRobot loads of a file of ours; the directory must not exist."""
        write_act(Path(directory), open_act(Path(file)))
