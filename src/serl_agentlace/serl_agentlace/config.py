# SPDX-License-Identifier: Apache-2.0
"""What client and server of agentlace have to agree on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from serl_agentlace.frames import AgentlaceError


@dataclass
class TrainerConfig:
    """Ports and kinds of requests. Client and server compare theirs, so the names and their order are agentlace's.

    Attributes:
        port_number: TCP port of requests.
        broadcast_port: TCP port on which parameters are published.
        request_types: kinds of requests beside those of data stores; SERL's scripts have `send-stats`.
        rate_limit: most requests of these kinds in a second that a client sends; None: any.
        version: that both have to have.
        experimental_pipeline_port: agentlace's second way for data, which is not served here.
    """

    port_number: int = 5555
    broadcast_port: int = 5556
    request_types: list[str] = field(default_factory=list)
    rate_limit: int | None = None
    version: str = "0.0.2"
    experimental_pipeline_port: str | None = None

    def to_json(self) -> str:
        """What goes over the wire, character for character as agentlace writes it."""
        return json.dumps(asdict(self), separators=(",", ":"))


def parse_config(answer: Any, where: str) -> TrainerConfig:
    """The configuration that a server says it has.

    Raises:
        AgentlaceError: it is none.
    """
    theirs = _parsed(answer, where)
    ours = asdict(TrainerConfig())
    numbers = [theirs.get(name) for name in ("port_number", "broadcast_port")]
    kinds = theirs.get("request_types")
    if theirs.keys() != ours.keys() or not all(type(each) is int and 0 < each < 2**16 for each in numbers):
        raise AgentlaceError(f"{where}: expected the configuration of a trainer server, found {answer!r:.200}")
    if not isinstance(kinds, list) or not all(isinstance(each, str) for each in kinds):
        raise AgentlaceError(f"{where}: expected names as request_types, found {kinds!r:.80}")
    limit = theirs.get("rate_limit")
    if limit is not None and (type(limit) not in (int, float) or not limit >= 0):
        raise AgentlaceError(f"{where}: expected requests in a second, or none, as rate_limit, found {limit!r:.80}")
    return TrainerConfig(**theirs)


def check_same(config: TrainerConfig, answer: Any, where: str) -> None:
    """Compare with what a server answered.

    Raises:
        AgentlaceError: they differ: says in what.
    """
    if answer == config.to_json():
        return
    theirs = _parsed(answer, where)
    ours = asdict(config)
    different = [
        f"{name}: {ours.get(name)!r:.40} here, {theirs.get(name)!r:.40} there"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    raise AgentlaceError(
        f"{where}: expected the same TrainerConfig at both ends, found {'; '.join(different) or 'another order'}"
    )


def _parsed(answer: Any, where: str) -> dict[str, Any]:
    try:
        theirs = json.loads(answer)
    except (TypeError, ValueError, RecursionError):
        theirs = None
    if not isinstance(theirs, dict):
        raise AgentlaceError(f"{where}: expected the configuration of a trainer server, found {answer!r:.80}")
    return theirs
