# SPDX-License-Identifier: Apache-2.0
"""The list of what will happen, made of a launch file and its arguments.

XML launch files cannot react to what runs, except by `on_exit`, so the whole walk is done before anything is started:
a mistake in the last line of the last included file is found while nothing runs yet.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serl_config.schema import nearest

from serl_launch.language.arguments import (
    Argument,
    absolute,
    argument_of,
    declared_arguments,
    refuse_unknown,
)
from serl_launch.language.commands import (
    ProcessSpec,
    check_process,
    executable_process,
    joined_namespace,
    node_process,
    remapping,
)
from serl_launch.language.elements import Element, LaunchFiles
from serl_launch.language.errors import LaunchError
from serl_launch.language.functions import SubstitutionError, truth
from serl_launch.language.parameters import parse_global
from serl_launch.language.scope import NAMESPACE, Scope
from serl_launch.language.values import coerce

_MAX_DEPTH = 50
"""Most includes within each other, so that a file that includes itself ends with an error."""

_RESERVED = ("global_params", "ros_remaps", "launch-prefix", "launch-prefix-filter", "emulate_tty")
"""Variables that change what upstream does, in ways that are not supported here."""


@dataclass(frozen=True)
class Log:
    """A message of the launch file, or about it."""

    message: str
    warning: bool = False


@dataclass(frozen=True)
class Shutdown:
    """The end of the launch, asked for by the launch file."""

    reason: str


@dataclass(frozen=True)
class Step:
    """What happens `at` seconds after the start; steps of one time happen in their order."""

    at: float
    action: ProcessSpec | Log | Shutdown
    cancel_on_shutdown: bool = True


@dataclass(frozen=True)
class LaunchPlan:
    """All that a launch file does with its arguments.

    Attributes:
        file: that is launched.
        steps: in order.
        arguments: values of what it, or only a file that it includes, declares.
        without_effect: names of given arguments that only files declare which it does not include with these.
    """

    file: Path
    steps: tuple[Step, ...]
    arguments: Mapping[str, str]
    without_effect: tuple[str, ...] = ()

    @property
    def processes(self) -> tuple[ProcessSpec, ...]:
        """The processes in the order of their start."""
        return tuple(step.action for step in self.steps if isinstance(step.action, ProcessSpec))


def make_plan(file: Path, arguments: Mapping[str, str], environment: Mapping[str, str], folder: Path) -> LaunchPlan:
    """Walk a launch file. `folder` is where parameter files will be written. Raises LaunchError."""
    return _Planner(absolute(file), arguments, environment, folder).plan()


@dataclass(order=True)
class _Timer:
    at: float
    order: int
    element: Element = field(compare=False)
    file: Path = field(compare=False)
    cancel_on_shutdown: bool = field(compare=False)


class _Planner:
    def __init__(self, file: Path, arguments: Mapping[str, str], environment: Mapping[str, str], folder: Path) -> None:
        self._file = file
        self._given = arguments
        self._folder = folder
        self._scope = Scope(dict(arguments), dict(environment), file)
        self._files = LaunchFiles()
        self._root = self._files.read(file)
        self._declared = {argument.name for argument in declared_arguments(file, environment)}
        self._arguments: dict[str, str] = {}
        self._steps: list[Step] = []
        self._timers: list[_Timer] = []
        self._order = itertools.count()
        self._processes = 0
        self._node_names: set[str] = set()
        self._depth = 0
        self._now = 0.0
        self._cancel_on_shutdown = True
        self._actions: Mapping[str, Callable[[Element], None]] = {
            "arg": self._arg,
            "let": self._let,
            "include": self._include,
            "group": self._group,
            "node": self._node,
            "executable": self._executable,
            "set_env": self._set_env,
            "unset_env": self._unset_env,
            "set_parameter": self._set_parameter,
            "set_remap": self._set_remap,
            "push_ros_namespace": self._push_namespace,
            "push-ros-namespace": self._push_namespace,
            "log": self._log,
            "timer": self._timer,
            "shutdown": self._shutdown,
        }

    def plan(self) -> LaunchPlan:
        try:
            self._load(self._root)
            self._walk(self._root)
            while self._timers:
                self._fire(heapq.heappop(self._timers))
        except RecursionError as error:
            raise LaunchError(f"{self._file}: files and groups are nested too deep within each other") from error
        refuse_unknown(self._given, self._declared, self._file)
        unused = tuple(name for name in self._given if name not in self._arguments)
        return LaunchPlan(self._file, tuple(self._steps), dict(self._arguments), unused)

    def _load(self, root: Element) -> None:
        for element in _descendants(root):
            if element.tag in ("node", "executable"):
                check_process(element)

    def _walk(self, parent: Element) -> None:
        for element in parent.children:
            if element.tag in self._actions:
                self._visit(element)

    def _visit(self, element: Element) -> None:
        if self._condition(element):
            self._actions[element.tag](element)

    def _condition(self, element: Element) -> bool:
        for name, wanted in (("if", True), ("unless", False)):
            if name in element.templates:
                try:
                    return truth(self._text(element, name)) is wanted
                except SubstitutionError as error:
                    raise element.error(f"attribute '{name}': {error}") from error
        return True

    def _text(self, element: Element, attribute: str) -> str:
        return self._scope.text(element, attribute)

    def _set_variable(self, element: Element, name: str, value: str) -> None:
        if name in _RESERVED:
            raise element.error(f"the variable '{name}' has a meaning for ros2 launch that is not supported here")
        self._scope.variables[name] = value

    def _arg(self, element: Element) -> None:
        argument = argument_of(element)
        self._declared.add(argument.name)
        value = self._scope.variables.get(argument.name)
        if value is None:
            if argument.default is None:
                description = f" ({argument.description})" if argument.description else ""
                raise element.error(
                    f"argument '{argument.name}'{description} has no default, give {argument.name}:=VALUE"
                )
            value = self._text(element, "default")
        if argument.choices and value not in argument.choices:
            raise element.error(
                f"argument '{argument.name}': expected {_choices(argument)}, found '{value}'"
                + nearest(value, argument.choices)
            )
        self._set_variable(element, argument.name, value)
        self._arguments.setdefault(argument.name, value)  # files that are included come later

    def _let(self, element: Element) -> None:
        self._set_variable(element, self._text(element, "name"), self._text(element, "value"))

    def _include(self, element: Element) -> None:
        file = absolute(Path(self._text(element, "file")))
        if self._depth >= _MAX_DEPTH:
            raise element.error(f"{_MAX_DEPTH} files include each other; does {file} include itself?")
        try:
            root = self._files.read(file)
        except LaunchError as error:
            raise error if error.location else element.error(str(error)) from error
        self._load(root)
        given = [(self._text(arg, "name"), self._text(arg, "value")) for arg in element.nested("arg")]
        names = {name for name, _ in given}
        for required in _required_arguments(root):
            if required.name not in names:
                raise element.error(f"{file} needs argument '{required.name}', pass it by a nested <arg>")
        for name, value in given:
            self._set_variable(element, name, value)
        self._depth += 1
        with self._scope.within(file):
            self._walk(root)
        self._depth -= 1

    def _group(self, element: Element) -> None:
        keep = {self._text(kept, "name"): self._text(kept, "value") for kept in element.nested("keep")}
        if not element.flag("scoped", True):
            self._scope.variables.update(keep)
            self._walk(element)
            return
        with self._scope.pushed():
            if not element.flag("forwarding", True):
                self._scope.clear()
            for name, value in keep.items():
                self._set_variable(element, name, value)
            self._walk(element)

    def _node(self, element: Element) -> None:
        spec = node_process(element, self._scope, self._next_number(), self._folder)
        if spec.node is not None and spec.node in self._node_names:
            self._add(Log(f"there are now two nodes with the name {spec.node} in this launch", warning=True))
        self._node_names.update({spec.node} if spec.node else ())
        self._add(spec)

    def _executable(self, element: Element) -> None:
        self._add(executable_process(element, self._scope, self._next_number()))

    def _set_env(self, element: Element) -> None:
        name, value = self._text(element, "name"), self._text(element, "value")
        if not name or "=" in name or "\0" in name + value:
            raise element.error(f"'{name}' cannot be the name of an environment variable")
        self._scope.environment[name] = value

    def _unset_env(self, element: Element) -> None:
        self._scope.environment.pop(self._text(element, "name"), None)

    def _set_parameter(self, element: Element) -> None:
        name, text = self._text(element, "name"), self._text(element, "value")
        try:
            self._scope.parameters.append((name, parse_global(text)))
        except ValueError as error:
            raise element.error(f"attribute 'value': {error}") from error

    def _set_remap(self, element: Element) -> None:
        self._scope.remappings.append(remapping(element, self._scope))

    def _push_namespace(self, element: Element) -> None:
        namespace = joined_namespace(element, self._scope, "namespace")
        assert namespace is not None, "the attribute is required"
        self._scope.variables[NAMESPACE] = namespace

    def _log(self, element: Element) -> None:
        self._add(Log(self._text(element, "message")))

    def _timer(self, element: Element) -> None:
        try:
            period = coerce(self._text(element, "period"), "float")
            cancel = "cancel_on_shutdown" not in element.templates or bool(
                coerce(self._text(element, "cancel_on_shutdown"), "bool")
            )
        except ValueError as error:
            raise element.error(str(error)) from error
        if not (isinstance(period, float) and 0.0 <= period < float("inf")):
            raise element.error(f"attribute 'period': expected a time of 0 s or more, found '{period}'")
        heapq.heappush(self._timers, _Timer(self._now + period, next(self._order), element, self._scope.file, cancel))

    def _fire(self, timer: _Timer) -> None:
        """Walk a timer's actions. As upstream, they see the outermost variables of the time at which it fires."""
        self._now, self._cancel_on_shutdown = timer.at, timer.cancel_on_shutdown
        with self._scope.within(timer.file):
            self._walk(timer.element)

    def _shutdown(self, element: Element) -> None:
        reason = self._text(element, "reason") if "reason" in element.templates else "asked for by the launch file"
        self._add(Shutdown(reason))

    def _next_number(self) -> int:
        self._processes += 1
        return self._processes

    def _add(self, action: ProcessSpec | Log | Shutdown) -> None:
        self._steps.append(Step(self._now, action, self._cancel_on_shutdown))


def _choices(argument: Argument) -> str:
    """What an argument may be, in words; where that is one thing alone, also why."""
    if len(argument.choices) == 1:
        return f"{argument.choices[0] or 'nothing'} ({argument.description})"
    return f"one of {', '.join(argument.choices)}"


def _descendants(element: Element) -> Iterator[Element]:
    for child in element.children:
        yield child
        yield from _descendants(child)


def _required_arguments(parent: Element) -> Iterator[Argument]:
    """Arguments without default that are declared whatever the conditions are."""
    for element in parent.children:
        if {"if", "unless"} & element.texts.keys():
            continue
        if element.tag == "arg" and "default" not in element.texts:
            yield argument_of(element)
        elif element.tag == "group":
            yield from _required_arguments(element)
