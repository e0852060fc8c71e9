# SPDX-License-Identifier: Apache-2.0
"""A task as its file `config/tasks/<name>.yaml`, and the files that it extends, say.

Where `<name>.variants` stands beside it, a word a line, the file is one for many tasks: `<name>-<word>` for each of
them, whose key `variant` is the word. By its own name there is no task then. A file of one's own that is called
`<name>-<word>.yaml` is that task instead.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from serl_config.files import FileError, read_text
from serl_config.schema import ConfigError, Location, line_at, read_yaml, suggestion
from serl_config.text import printable, shown

from serl_config import resources

FOLDER = "config/tasks"
OBJECTS = "objects"
"""The key whose values are merged by name; every other key is one value."""
VARIANT = "variant"
"""The key that tells the tasks of one file apart."""
LONGEST_CHAIN = 8
"""Files, the first task's own among them, until one extends no other."""
_LARGEST_LIST = 2**16  # [bytes]
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it gets into names of runs and of files


@dataclass(frozen=True)
class TaskFile:
    """A task's file, and the one that it extends."""

    path: Path
    own: dict[str, Any]
    """What the file itself says, without `extends`."""
    root: yaml.Node
    """Node tree of the file itself, for line numbers."""
    extended: "TaskFile | None" = None

    @property
    def data(self) -> dict[str, Any]:
        """All that the task is: its own keys, then those of the extended file that it does not say itself.

        `objects` are merged by name: what is said of an inherited one replaces single values of it, `null` removes it.

        Raises:
            ConfigError: an object is removed that is not there.
        """
        inherited = {} if self.extended is None else self.extended.data
        data = inherited | self.own
        if isinstance(self.own.get(OBJECTS), dict):
            data[OBJECTS] = self._merged(inherited.get(OBJECTS))
        return data

    def _merged(self, inherited: Any) -> dict[str, Any]:
        objects = dict(inherited) if isinstance(inherited, dict) else {}
        for name, item in self.own[OBJECTS].items():
            if item is None:
                if name not in objects:
                    known = suggestion(name, [*objects])
                    raise ConfigError(
                        f"{self.place((OBJECTS, name))}: '{OBJECTS}.{name}': null removes an object of the extended "
                        f"task, which has none of this name{known}"
                    )
                del objects[name]
            elif isinstance(item, dict) and isinstance(objects.get(name), dict):
                objects[name] = objects[name] | item
            else:
                objects[name] = item
        return objects

    def place(self, location: Location) -> str:
        """File and line of the value at `location`, or of the innermost part of it that exists."""
        file = self._saying(location)
        return f"{printable(file.path)}:{line_at(file.root, location)}"

    def _saying(self, location: Location) -> "TaskFile":
        """The first file, from this one on, that says most of `location`."""
        files = [self]
        while (extended := files[-1].extended) is not None:
            files.append(extended)
        if location[:1] != (OBJECTS,):
            location = location[:1]  # which is said by one file alone
        return max(files, key=lambda file: _depth(file.own, location))  # the first of the largest


def _depth(data: Any, location: Location) -> int:
    """How many steps of `location` are in `data`."""
    for depth, step in enumerate(location):
        if not isinstance(data, dict) or step not in data:
            return depth
        data = data[step]
    return len(location)


def read_task(name: str) -> TaskFile:
    """Read `config/tasks/<name>.yaml` and what it extends.

    A file with `extends: <other>` has the keys of that task, which may extend another one itself, and its own, which
    come first.

    Raises:
        ConfigError: there is no such task (the message lists those there are), a file cannot be used, or the files
            extend each other in a circle or in a chain longer than `LONGEST_CHAIN`.
    """
    known = task_files()
    if name not in known:
        raise ConfigError(f"unknown task {name!r}" + suggestion(name, [*known]))
    return _read([name], known)


def task_files() -> dict[str, Path]:
    """The file of every task, by the task's name, sorted.

    Raises:
        ConfigError: a file of variants cannot be read, names none, or one twice.
    """
    files = resources.listing(FOLDER, ".yaml")
    for name, path in resources.listing(FOLDER, ".variants").items():
        if (file := files.pop(name, None)) is None:
            raise ConfigError(f"{printable(path)}: expected {name}.yaml of the same name, found none")
        for word in _variants(path):
            files.setdefault(f"{name}-{word}", file)
    return dict(sorted(files.items()))


def _variants(path: Path) -> list[str]:
    """The words of a file of variants. Raises ConfigError."""
    try:
        words = read_text(path, _LARGEST_LIST).split()
    except FileError as error:
        raise ConfigError(str(error)) from error
    odd = [word for word in words if _WORD.fullmatch(word) is None]
    if odd or not words:
        found = printable(odd[0], 80) if odd else "nothing"
        raise ConfigError(
            f"{printable(path)}: expected words of letters, digits, '.', '_' and '-', one a line, found {found}"
        )
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ConfigError(f"{printable(path)}: expected each word once, found {', '.join(twice)} more often")
    return words


def _read(chain: list[str], known: dict[str, Path]) -> TaskFile:
    """The file of the last task of `chain`, in which each extends the next one. Raises ConfigError."""
    name = chain[-1]
    path = known[name]
    data, root = read_yaml(path)
    if data.get("name") != path.stem:
        found = shown(data.get("name"))
        raise ConfigError(f"{printable(path)}: 'name': expected {path.stem!r} as the file's name says, found {found}")
    if name != path.stem:
        data |= {"name": name, VARIANT: name.removeprefix(f"{path.stem}-")}
    if "extends" not in data:
        return TaskFile(path, data, root)
    where = f"{printable(path)}:{line_at(root, ('extends',))}: 'extends'"
    extended = _checked(data.pop("extends"), where, chain, known)
    return TaskFile(path, data, root, _read([*chain, extended], known))


def _checked(extended: Any, where: str, chain: list[str], known: dict[str, Path]) -> str:
    """What the last task of `chain` extends, if that can be. Raises ConfigError."""
    if not isinstance(extended, str) or extended not in known:
        hint = suggestion(extended, [*known]) if isinstance(extended, str) else ""
        raise ConfigError(f"{where}: expected another task, found {shown(extended)}{hint}")
    files = " extends ".join(printable(known[name]) for name in [*chain, extended])
    if extended in chain:
        raise ConfigError(f"{where}: expected another task, found a circle: {files}")
    if len(chain) == LONGEST_CHAIN:
        raise ConfigError(f"{where}: expected at most {LONGEST_CHAIN} files that extend each other, found {files}")
    return extended
