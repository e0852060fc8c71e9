# SPDX-License-Identifier: Apache-2.0
"""Finds the learning settings that actor and learner share."""

from pathlib import Path

from serl_rl.config import LearningConfig
from serl_robots.config import load_yaml
from serl_robots.resources import find


def load_learning(name: str) -> LearningConfig:
    """Load `config/learning/<name>.yaml`, or the file that `name` is the path of.

    Raises:
        ConfigError: it is missing, or holds a key or value that it cannot have.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else find(f"config/learning/{name}.yaml")
    return load_yaml(path, LearningConfig)
