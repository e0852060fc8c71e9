# SPDX-License-Identifier: Apache-2.0
"""The substitutions that exist: what each name means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serl_launch.language.expression import ExpressionError, compare
from serl_launch.language.packages import PackageError, package_share
from serl_launch.language.substitutions import Call, Template
from serl_launch.language.values import coerce


class SubstitutionError(ValueError):
    """A substitution that has no value, or that does not exist."""


class Context(Protocol):
    """What substitutions may look at."""

    variables: dict[str, str]
    environment: dict[str, str]
    file: Path


@dataclass(frozen=True)
class _Function:
    signature: str
    counts: range
    perform: Callable[[Context, Sequence[str]], str]


def check(template: Template) -> None:
    """Names and numbers of arguments, before any value is known. Raises SubstitutionError."""
    for part in template:
        if not isinstance(part, Call):
            continue
        function = _FUNCTIONS.get(part.name)
        if function is None:
            supported = ", ".join(known.signature for known in _FUNCTIONS.values())
            remedy = "; it runs a program: use `ros2 launch` of a native ROS 2" if part.name == "command" else ""
            raise SubstitutionError(f"$({part.name} ...) is not supported{remedy}; supported are {supported}")
        if len(part.arguments) not in function.counts:
            raise SubstitutionError(f"expected {function.signature}, found {len(part.arguments)} arguments")
        if part.name == "equals" and () in part.arguments:
            # Upstream compares an empty quotation as the text "[]", so the same file would mean two things.
            raise SubstitutionError("$(equals ...) cannot compare with '', write $(eval \"'$(var name)' == ''\")")
        for argument in part.arguments:
            check(argument)


def perform(name: str, arguments: Sequence[str], context: Context) -> str:
    """Value of one substitution whose arguments are known. Raises SubstitutionError."""
    return _FUNCTIONS[name].perform(context, arguments)


def truth(text: str) -> bool:
    """A condition: true, 1, false or 0, in any case and with blanks around. Raises SubstitutionError."""
    value = _CONDITIONS.get(text.strip().lower())
    if value is None:
        raise SubstitutionError(f"expected true, 1, false or 0, found '{text}'")
    return value


_CONDITIONS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


def _var(context: Context, arguments: Sequence[str]) -> str:
    name, default = _with_default(arguments)
    value = context.variables.get(name, default)
    if value is None:
        known = ", ".join(sorted(context.variables)) or "none"
        raise SubstitutionError(f"$(var {name}): there is no such argument or variable here; known are {known}")
    return value


def _env(context: Context, arguments: Sequence[str]) -> str:
    name, default = _with_default(arguments)
    value = context.environment.get(name, default)
    if value is None:
        raise SubstitutionError(f"$(env {name}): the environment variable is not set and no default is given")
    return value


def _find_pkg_share(context: Context, arguments: Sequence[str]) -> str:
    try:
        return str(package_share(arguments[0], context.environment))
    except PackageError as error:
        raise SubstitutionError(f"$(find-pkg-share {arguments[0]}): {error}") from error


def _dirname(context: Context, arguments: Sequence[str]) -> str:
    return str(context.file.parent)


def _equals(context: Context, arguments: Sequence[str]) -> str:
    """Compared as conditions if both are, else as numbers if both are (to 1e-9, relative), else as text."""
    left, right = arguments
    if left.lower() in _CONDITIONS and right.lower() in _CONDITIONS:
        return _text(_CONDITIONS[left.lower()] == _CONDITIONS[right.lower()])
    try:
        return _text(math.isclose(float(left), float(right)))
    except ValueError:
        return _text(left == right)


def _not(context: Context, arguments: Sequence[str]) -> str:
    return _text(not _bool("not", arguments[0]))


def _and(context: Context, arguments: Sequence[str]) -> str:
    left, right = (_bool("and", argument) for argument in arguments)
    return _text(left and right)


def _or(context: Context, arguments: Sequence[str]) -> str:
    left, right = (_bool("or", argument) for argument in arguments)
    return _text(left or right)


def _eval(context: Context, arguments: Sequence[str]) -> str:
    try:
        return str(compare(arguments[0]))
    except ExpressionError as error:
        raise SubstitutionError(f"$(eval ...): {error}") from error


def _with_default(arguments: Sequence[str]) -> tuple[str, str | None]:
    return arguments[0], arguments[1] if len(arguments) > 1 else None


def _bool(function: str, text: str) -> bool:
    try:
        return bool(coerce(text, "bool"))
    except ValueError as error:
        raise SubstitutionError(f"$({function} ...): {error}") from error


def _text(value: bool) -> str:
    return "true" if value else "false"


_FUNCTIONS: Mapping[str, _Function] = {
    "var": _Function("$(var name [default])", range(1, 3), _var),
    "env": _Function("$(env NAME [default])", range(1, 3), _env),
    "find-pkg-share": _Function("$(find-pkg-share package)", range(1, 2), _find_pkg_share),
    "dirname": _Function("$(dirname)", range(1), _dirname),
    "equals": _Function("$(equals a b)", range(2, 3), _equals),
    "not": _Function("$(not a)", range(1, 2), _not),
    "and": _Function("$(and a b)", range(2, 3), _and),
    "or": _Function("$(or a b)", range(2, 3), _or),
    "eval": _Function("$(eval 'comparison')", range(1, 2), _eval),
}
