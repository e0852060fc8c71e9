# SPDX-License-Identifier: Apache-2.0
"""Kinds of tasks by name. A kind is a class, in a module that is imported when a task first asks for it.

The module is either `serl_tasks/kinds/<kind>.py`, or one of another installed package, which names it as an entry point
of the group `serl_tasks.kinds`, in its `setup.py`::

    entry_points={"serl_tasks.kinds": ["push_cube = my_tasks.push_cube"]}
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TypeVar

from serl_config.text import printable, shown

from serl_tasks.task import Task

KINDS = "serl_tasks.kinds"
"""Our package of kinds, and the group of entry points for those of others."""

TaskClass = TypeVar("TaskClass", bound=type[Task])

_registered: dict[str, type[Task]] = {}


class KindError(ValueError):
    """A kind that is not there, or whose module does not give it."""


def register(kind: str) -> Callable[[TaskClass], TaskClass]:
    """Class decorator: let task files say ``kind: <kind>`` for this class.

    Raises:
        TypeError: the class is no `Task`.
        ValueError: another class has that name.
    """

    def add(cls: TaskClass) -> TaskClass:
        if not (isinstance(cls, type) and issubclass(cls, Task)):
            raise TypeError(f"task kind {kind!r}: expected a class that extends serl_tasks.Task, found {cls!r}")
        if _registered.setdefault(kind, cls) is not cls:
            other = _registered[kind]
            raise ValueError(f"task kind {kind!r} is registered already, for {other.__module__}.{other.__qualname__}")
        return cls

    return add


def kind_names() -> tuple[str, ...]:
    """Names of all kinds, sorted; none of their modules is imported for that."""
    return tuple(sorted({*_registered, *(source.kind for source in _sources())}))


def find_kind(kind: object) -> type[Task]:
    """The class of a kind. Imports its module, and no other one.

    Raises:
        KindError: there is no such kind, two modules claim to be it, or its module cannot be imported or registers
            something else.
    """
    if isinstance(kind, str) and kind in _registered:
        return _registered[kind]
    sources = [source for source in _sources() if source.kind == kind]
    if not sources:
        raise KindError(f"expected one of {', '.join(kind_names())}, found {shown(kind)}")
    if len(sources) > 1:
        raise KindError(f"expected one module for {kind!r}, found " + " and ".join(map(str, sources)))
    return sources[0].load()


@dataclass(frozen=True)
class _Source:
    """Where a kind comes from."""

    kind: str
    module: str
    package: str
    """The installed package that names it, empty for one of ours."""

    def __str__(self) -> str:
        return f"{self.module} (an entry point of {self.package})" if self.package else self.module

    def load(self) -> type[Task]:
        """Import the module and return the class that it registers. Raises KindError."""
        before = dict(_registered)
        try:
            importlib.import_module(self.module)
        except (Exception, SystemExit) as error:  # a module of somebody else may raise anything, also on `sys.exit()`
            _registered.clear()
            _registered.update(before)  # what half a module registered would be found the next time
            raise KindError(f"{self} cannot be imported: {type(error).__name__}: {printable(error)}") from error
        if self.kind not in _registered:
            raise KindError(f'{self}: expected a class with @register("{self.kind}"), found none')
        return _registered[self.kind]


def _sources() -> list[_Source]:
    spec = importlib.util.find_spec(KINDS)  # by name: the kinds import this module
    folders = spec.submodule_search_locations if spec is not None else None
    ours = [_Source(each.name, f"{KINDS}.{each.name}", "") for each in pkgutil.iter_modules(folders or [])]
    others = [
        _Source(each.name, each.module, each.dist.name if each.dist else "an unknown package")
        for each in entry_points(group=KINDS)
    ]
    return list(dict.fromkeys(ours + others))
