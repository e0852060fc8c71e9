# SPDX-License-Identifier: Apache-2.0
"""The tags and attributes that the runner understands: a subset of upstream's XML, refused beyond it.

What is left out, and why, is in docs/launch.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_CONDITIONS = frozenset({"if", "unless"})
_PROCESS = frozenset(
    {
        "cwd",
        "launch-prefix",
        "on_exit",
        "output",
        "respawn",
        "respawn_delay",
        "respawn_max_retries",
        "sigkill_timeout",
        "sigterm_timeout",
    }
)
_PROCESS_LITERALS = {
    "on_exit": "str",
    "respawn_max_retries": "int",
    "respawn_delay": "float",
    "sigterm_timeout": "float",
    "sigkill_timeout": "float",
}
_ARGUMENT_LITERALS = {"name": "str", "description": "str"}
_PARAMETER_LITERALS = {"value": "str", "value-sep": "str", "type": "str"}


@dataclass(frozen=True)
class Schema:
    """What may stand in one tag.

    `literals` are attributes in which substitutions are not performed here, with the type that is checked on reading.
    """

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    nested: frozenset[str] = frozenset()
    holds_actions: bool = False
    literals: Mapping[str, str] = field(default_factory=dict)


def _schema(
    required: str = "",
    optional: str = "",
    nested: str = "",
    *,
    also: frozenset[str] = frozenset(),
    holds_actions: bool = False,
    literals: Mapping[str, str] | None = None,
) -> Schema:
    return Schema(
        frozenset(required.split()),
        frozenset(optional.split()) | also,
        frozenset(nested.split()),
        holds_actions,
        literals or {},
    )


ROOT = _schema(holds_actions=True)

ACTIONS: Mapping[str, Schema] = {
    "arg": _schema("name", "default description", "choice", also=_CONDITIONS, literals=_ARGUMENT_LITERALS),
    "let": _schema("name value", also=_CONDITIONS),
    "include": _schema("file", nested="arg", also=_CONDITIONS),
    "group": _schema(
        optional="scoped forwarding",
        nested="keep",
        also=_CONDITIONS,
        holds_actions=True,
        literals={"scoped": "bool", "forwarding": "bool"},
    ),
    "node": _schema(
        "pkg exec",
        "name namespace exec_name args ros_args",
        "remap param env",
        also=_CONDITIONS | _PROCESS,
        literals=_PROCESS_LITERALS,
    ),
    "executable": _schema("cmd", "name", "env", also=_CONDITIONS | _PROCESS, literals=_PROCESS_LITERALS),
    "set_env": _schema("name value", also=_CONDITIONS),
    "unset_env": _schema("name", also=_CONDITIONS),
    "set_parameter": _schema("name value", also=_CONDITIONS),
    "set_remap": _schema("from to", also=_CONDITIONS),
    "push_ros_namespace": _schema("namespace", also=_CONDITIONS),
    "push-ros-namespace": _schema("namespace", also=_CONDITIONS),
    "log": _schema("message", also=_CONDITIONS),
    "timer": _schema("period", "cancel_on_shutdown", also=_CONDITIONS, holds_actions=True),
    "shutdown": _schema(optional="reason", also=_CONDITIONS),
}

NESTED: Mapping[tuple[str, str], Schema] = {
    ("arg", "choice"): _schema("value", literals={"value": "str"}),
    ("include", "arg"): _schema("name value"),
    ("group", "keep"): _schema("name value"),
    ("node", "remap"): _schema("from to"),
    ("node", "param"): _schema(
        optional="name value value-sep type from allow_substs", nested="param", literals=_PARAMETER_LITERALS
    ),
    ("param", "param"): _schema("name", "value value-sep type", nested="param", literals=_PARAMETER_LITERALS),
    ("node", "env"): _schema("name value"),
    ("executable", "env"): _schema("name value"),
}
