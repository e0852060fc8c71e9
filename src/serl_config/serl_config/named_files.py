# SPDX-License-Identifier: Apache-2.0
"""Configurations that are asked for by name: the file `FOLDER/NAME.yaml`, which says the same name."""

from pathlib import Path
from typing import Protocol, TypeVar

from serl_config import resources
from serl_config.schema import ConfigError, load_yaml, suggestion


class Named(Protocol):
    """A configuration that says what it is called."""

    @property
    def name(self) -> str:
        """Name of its file, without the ending."""


T = TypeVar("T", bound=Named)


def load_named(folder: str, name: str, cls: type[T], what: str) -> tuple[T, Path]:
    """The configuration `folder/<name>.yaml`, and its file.

    Args:
        folder: relative to the workspace's share folders.
        name: of the file, without its ending.
        cls: declared with `@config`.
        what: it is, for errors: `robot`.

    Raises:
        ConfigError: there is no such file (the message lists those there are), it is wrong, or says another name.
    """
    known = resources.listing(folder, ".yaml")
    if name not in known:
        raise ConfigError(f"unknown {what} {name!r}" + suggestion(name, [*known]))
    loaded = load_yaml(known[name], cls)
    if loaded.name != name:
        raise ConfigError(f"{known[name]}: 'name': expected {name!r} as the file's name says, found {loaded.name!r}")
    return loaded, known[name]
