# SPDX-License-Identifier: Apache-2.0
"""Makes robots of LeRobot by the names of their types."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from serl_config.schema import ConfigError, suggestion

from serl_lerobot.compat import LeRobotMissing, load


def config_class(kind: str, source: str) -> Any:
    """The class of the configuration of a type that LeRobot, or a plug-in of it, knows.

    Args:
        kind: as `--robot.type` of LeRobot's commands.
        source: file that names it, for people.

    Raises:
        ConfigError: there is no such type.
        LeRobotMissing: LeRobot is not installed.
    """
    robots = load("lerobot.robots")
    failed = []
    for module in pkgutil.iter_modules(robots.__path__):
        if module.ispkg:
            try:
                load(f"lerobot.robots.{module.name}")
            except LeRobotMissing as error:  # that robot's own libraries
                failed.append(str(error))
    load("lerobot.utils.import_utils").register_third_party_plugins()
    known = robots.RobotConfig.get_known_choices()
    if kind not in known:
        why = f"; not to be had: {'; '.join(failed)}" if failed else ""
        raise ConfigError(
            f"{source}: 'type': expected one of {', '.join(sorted(known))}, found {kind!r}"
            f"{suggestion(kind, [*known])}{why}"
        )
    return known[kind]


def robot_config(kind: str, options: Mapping[str, Any], source: str) -> Any:
    """The `RobotConfig` of a type with these fields; `source` names their file.

    Raises:
        ConfigError: there is no such type, or it does not take these options.
        LeRobotMissing: LeRobot is not installed.
    """
    config_class(kind, source)
    draccus = import_module("draccus")
    base = load("lerobot.robots").RobotConfig
    try:
        return draccus.decode(base, {"type": kind, **options})
    except (draccus.utils.DraccusException, TypeError, ValueError) as error:
        raise ConfigError(f"{source}: 'options': {kind} does not take them: {' '.join(str(error).split())}") from error


def make_robot(configuration: Any) -> Any:
    """The `lerobot.robots.Robot` of a `RobotConfig`, not connected; raises what its constructor raises."""
    return load("lerobot.robots").make_robot_from_config(configuration)
